package kv

import (
	"bytes"
	"fmt"
	"path/filepath"
	"testing"
)

// largeTx is how many changes BenchmarkTx makes in one transaction.
const largeTx = 500_000

// BenchmarkTx puts random keys in transactions of 500,000 changes, and reads one key after each.
// ns/op is for a put, a get and their part of the commit.
func BenchmarkTx(b *testing.B) {
	keys := benchKeys(benchRecords())
	db := loadBench(b, keys)
	value := make([]byte, benchValueBytes)
	next := benchOrder(keys, benchOps)
	var tx *Tx
	for n := 0; b.Loop(); n++ {
		var err error
		switch {
		case tx == nil:
			tx, err = db.Begin(true)
		case n%largeTx == 0:
			if err = tx.Commit(); err == nil {
				tx, err = db.Begin(true)
			}
		}
		if err == nil {
			err = tx.Put(next(), value)
		}
		if err == nil {
			_, err = tx.Get(next())
		}
		if err != nil {
			b.Fatal(err)
		}
	}
	if err := tx.Commit(); err != nil {
		b.Fatal(err)
	}
}

// BenchmarkLongKeys works with keys that differ in their last 20 bytes only: puts of new ones, gets,
// and scans of 100. ns/op is for one call.
func BenchmarkLongKeys(b *testing.B) {
	const records = 10_000
	for _, size := range []int{950, 10_000} {
		shared := bytes.Repeat([]byte("p"), size-20)
		key := func(i int) []byte {
			return fmt.Appendf(shared[:len(shared):len(shared)], "%020d", uint64(i)*0x9e3779b97f4a7c15)
		}
		load := func(b *testing.B) *DB {
			db, err := Open(filepath.Join(benchDir(b), "s"), nil)
			if err != nil {
				b.Fatal(err)
			}
			b.Cleanup(func() { _ = db.Close() })
			for i := range records {
				if err := db.Put(key(i), make([]byte, benchValueBytes)); err != nil {
					b.Fatal(err)
				}
			}
			return db
		}
		calls := map[string]func(db *DB, i int) error{
			"put": func(db *DB, i int) error { return db.Put(key(records+i), make([]byte, benchValueBytes)) },
			"get": func(db *DB, i int) error {
				_, err := db.Get(key(i * 7 % records))
				return err
			},
			"scan100": func(db *DB, i int) error {
				return db.Scan(key(i*7%records), nil, 100, func(k, v []byte) bool { return sumRecord(k, v) })
			},
		}
		for _, name := range []string{"put", "get", "scan100"} {
			b.Run(fmt.Sprint(size, "/", name), func(b *testing.B) {
				db := load(b)
				for i := 0; b.Loop(); i++ {
					if err := calls[name](db, i); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
