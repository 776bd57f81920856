package realtest

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"testing"

	"go.etcd.io/bbolt"
)

// The benchmarks use a bucket of 100,000 items with keys of 17 bytes and values of 100,
// in a directory for temporary files: TMPDIR says on what device. Here they run with bbolt;
// scripts/upstream --bench runs them with the drop-in too.

const benchItems = 100_000

var benchBucket = []byte("bucket")

func benchKey(i int) []byte { return fmt.Appendf(nil, "key-%013d", i) }

func benchFill(b *testing.B) *bbolt.DB {
	b.Helper()
	db, err := bbolt.Open(b.TempDir()+"/db", 0o600, nil)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = db.Close() })
	value := make([]byte, 100)
	for from := 0; from < benchItems; from += 10_000 {
		update(b, db, func(bk *bbolt.Bucket) error {
			for i := range 10_000 {
				binary.LittleEndian.PutUint64(value, uint64(from+i))
				if err := bk.Put(benchKey(from+i), value); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return db
}

func update(b *testing.B, db *bbolt.DB, fn func(*bbolt.Bucket) error) {
	b.Helper()
	err := db.Update(func(tx *bbolt.Tx) error {
		bk, err := tx.CreateBucketIfNotExists(benchBucket)
		if err != nil {
			return err
		}
		return fn(bk)
	})
	if err != nil {
		b.Fatal(err)
	}
}

func benchPuts(b *testing.B, n int) {
	db := benchFill(b)
	r := rand.New(rand.NewPCG(1, 1))
	value := make([]byte, 100)
	for b.Loop() {
		update(b, db, func(bk *bbolt.Bucket) error {
			for range n {
				if err := bk.Put(benchKey(r.IntN(benchItems)), value); err != nil {
					return err
				}
			}
			return nil
		})
	}
}

func BenchmarkTxOfOnePut(b *testing.B)   { benchPuts(b, 1) }
func BenchmarkTxOf100Puts(b *testing.B)  { benchPuts(b, 100) }
func BenchmarkTxOf1000Puts(b *testing.B) { benchPuts(b, 1000) }

func view(b *testing.B, db *bbolt.DB, fn func(*bbolt.Bucket)) {
	if err := db.View(func(tx *bbolt.Tx) error { fn(tx.Bucket(benchBucket)); return nil }); err != nil {
		b.Fatal(err)
	}
}

func BenchmarkGet(b *testing.B) {
	db := benchFill(b)
	r := rand.New(rand.NewPCG(1, 1))
	view(b, db, func(bk *bbolt.Bucket) {
		for b.Loop() {
			if bk.Get(benchKey(r.IntN(benchItems))) == nil {
				b.Fatal("nothing")
			}
		}
	})
}

func BenchmarkSeek(b *testing.B) {
	db := benchFill(b)
	r := rand.New(rand.NewPCG(1, 1))
	view(b, db, func(bk *bbolt.Bucket) {
		for b.Loop() {
			if k, _ := bk.Cursor().Seek(benchKey(r.IntN(benchItems))); k == nil {
				b.Fatal("nothing")
			}
		}
	})
}

func BenchmarkViewOfOneGet(b *testing.B) {
	db := benchFill(b)
	r := rand.New(rand.NewPCG(1, 1))
	for b.Loop() {
		view(b, db, func(bk *bbolt.Bucket) {
			if bk.Get(benchKey(r.IntN(benchItems))) == nil {
				b.Fatal("nothing")
			}
		})
	}
}

func BenchmarkScan1000(b *testing.B) {
	db := benchFill(b)
	r := rand.New(rand.NewPCG(1, 1))
	view(b, db, func(bk *bbolt.Bucket) {
		for b.Loop() {
			c := bk.Cursor()
			k, v := c.Seek(benchKey(r.IntN(benchItems - 1000)))
			sum := 0
			for range 1000 {
				sum += len(k) + int(v[0])
				k, v = c.Next()
			}
			if sum < 17_000 {
				b.Fatal(sum)
			}
		}
	})
}
