package kv

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"runtime"
	"testing"
	"time"
)

// TestEmptyValues: an empty value differs from absence, so every read returns a slice that is not
// nil for it, whatever the length of its key and wherever it lies.
func TestEmptyValues(t *testing.T) {
	for _, o := range []Options{{}, {SlabBytes: 4096}, {PoisonSlices: true}, {Device: "block"}} {
		t.Run(fmt.Sprintf("device %q, slabs %d, poison %v", o.Device, o.SlabBytes, o.PoisonSlices), func(t *testing.T) {
			if o.Device == "block" && runtime.GOOS != "linux" {
				t.Skip("there is no such device here")
			}
			testEmptyValues(t, &o)
		})
	}
}

func testEmptyValues(t *testing.T, o *Options) {
	o.Clock = clockAt(time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)).now
	path := filepath.Join(testDir(t), "s")
	db, err := Open(path, o)
	must(t, err)
	defer func() { must(t, db.Close()) }()
	var keys [][]byte
	for i, n := range []int{0, 1, 16, 255, 900, 1000, 4000, 5000, 16_000, 16_400, 20_000, 40_000, MaxKeyBytes} {
		keys = append(keys, bytes.Repeat([]byte{byte('a' + i)}, n))
	}
	there := func(how string, key, value []byte, err error) {
		t.Helper()
		if err != nil || value == nil || len(value) != 0 {
			t.Errorf("%s: an empty value of a key of %d bytes is %v (nil: %v), %v", how, len(key), clip(value), value == nil, err)
		}
	}
	expiring := func(key []byte) []byte { return append([]byte("!"), key[:max(1, len(key))-1]...) }
	b := db.NewBatch()
	for _, k := range keys {
		must(t, db.Put(k, nil))
		if len(k) > 0 {
			must(t, db.PutTTL(expiring(k), nil, time.Hour))
		}
		b.Put(k, nil)
	}
	b.Replay(func(k, v []byte, _ time.Duration) { there("Replay", k, v, nil) }, nil, nil)
	readEmptyValues(t, db, keys, there)
	wantErr(t, "an Update", db.Update(func(tx *Tx) error { // its own
		must(t, tx.DeleteRange(nil, nil))
		for _, k := range keys {
			must(t, tx.Put(k, nil))
			v, err := tx.Get(k)
			there("the Tx itself", k, v, err)
		}
		for k, v := range tx.All(nil, nil) {
			there("the Tx's own iterator", k, v, nil)
		}
		return errRolledBack
	}), errRolledBack)
	readEmptyValues(t, db, keys, there)
	var stream bytes.Buffer
	_, err = db.Backup(context.Background(), &stream)
	must(t, err)
	must(t, db.Close())
	_, err = Salvage(context.Background(), path, o, func(r Rescued) error {
		there("Salvage", r.Key, r.Value, nil)
		return nil
	})
	must(t, err)
	must(t, Restore(context.Background(), path+".restored", &stream, o))
	db, err = Open(path+".restored", o)
	must(t, err)
	readEmptyValues(t, db, keys, there)
}

func readEmptyValues(t *testing.T, db *DB, keys [][]byte, there func(how string, key, value []byte, err error)) {
	for _, k := range keys {
		v, err := db.Get(k)
		there("Get", k, v, err)
		v, err = db.GetAppend(nil, k)
		there("GetAppend", k, v, err)
		v, err = db.GetAppend([]byte("ab"), k)
		if string(v) != "ab" || err != nil {
			t.Errorf("GetAppend behind two bytes: %q, %v", v, err)
		}
		v, err = db.getRegistered(nil, k, true)
		there("Get in a snapshot", k, v, err)
	}
	scan := func(how string) func(k, v []byte) bool {
		return func(k, v []byte) bool { there(how, k, v, nil); return true }
	}
	must(t, db.Scan(nil, nil, 5, scan("short Scan")))
	must(t, db.Scan(nil, nil, -1, scan("Scan")))
	read := func(tx *Tx) error {
		for _, k := range keys {
			v, err := tx.Get(k)
			there("Tx.Get", k, v, err)
		}
		tx.All(nil, nil)(scan("All"))
		tx.Backward(nil, nil)(scan("Backward"))
		tx.Prefix(nil)(scan("Prefix"))
		c := tx.Cursor()
		for c.Next() {
			there("Cursor", c.Key(), c.Value(), nil)
		}
		return c.Close()
	}
	must(t, db.View(read))
	must(t, db.Update(read))
}

var errRolledBack = errors.New("rolled back")
