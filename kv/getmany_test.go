package kv

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"nvkv/kv/internal/btree"
	"nvkv/nvmap"
)

// answer is what a lookup of a key returned.
type answer struct {
	value string
	err   error
}

// gotMany returns the answers of GetMany to keys, and checks that they come in order.
func gotMany(t *testing.T, get func([][]byte, func(int, []byte, error) bool) error, keys [][]byte) []answer {
	t.Helper()
	var out []answer
	must(t, get(keys, func(i int, value []byte, err error) bool {
		if i != len(out) {
			t.Errorf("key %d comes as number %d", i, len(out))
		}
		if err == nil && value == nil {
			t.Errorf("key %d has a nil value", i)
		}
		out = append(out, answer{string(value), err})
		return true
	}))
	if len(out) != len(keys) {
		t.Errorf("%d answers to %d keys", len(out), len(keys))
	}
	return out
}

// wantAsGet checks that GetMany answers what Get does.
func wantAsGet(t *testing.T, tx *Tx, keys [][]byte) {
	t.Helper()
	for i, a := range gotMany(t, tx.GetMany, keys) {
		v, err := tx.Get(keys[i])
		if string(v) != a.value || fmt.Sprint(err) != fmt.Sprint(a.err) {
			t.Errorf("key %d, %.40q: %.40q, %v; Get has %.40q, %v", i, keys[i], a.value, a.err, v, err)
		}
	}
}

// GetMany answers what Get does, in every kind of Tx and for every number of keys.
func TestGetManyIsGet(t *testing.T) {
	names := []string{"", "a", "b", "ba", "c", strings.Repeat("d", 1200), strings.Repeat("e", 30000), "f"}
	inTx(t, names, func(t *testing.T, tx *Tx) {
		var all [][]byte
		for _, n := range append(names, "0", "bb", "cc", "zz", strings.Repeat("d", 1201), strings.Repeat("k", MaxKeyBytes+1)) {
			all = append(all, []byte(n))
		}
		rng := rand.New(rand.NewPCG(1, 2))
		for n := range 40 {
			keys := make([][]byte, n)
			for i := range keys {
				keys[i] = all[rng.IntN(len(all))]
			}
			wantAsGet(t, tx, keys)
		}
		wantAsGet(t, tx, [][]byte{nil})
	})
}

// In a tree of several levels, with values in slots and in runs, on every kind of device.
func TestGetManyOfALargeTree(t *testing.T) {
	for name, dev := range map[string]nvmap.Device{"mapped": nvmap.NewMem(64 << 20), "unmapped": unmappedDevice{Device: nvmap.NewMem(64 << 20)}} {
		t.Run(name, func(t *testing.T) {
			now := time.Unix(1000, 0)
			db, err := OpenDevice(dev, &Options{CacheBytes: MinCacheBytes, Clock: func() time.Time { return now }})
			must(t, err)
			defer db.Close()
			const n = 4000
			key := func(i int) []byte { return fmt.Appendf(nil, "key%06d", i*7919%n) }
			b := db.NewBatch()
			for i := range n {
				switch {
				case i%400 == 0:
					b.Put(key(i), bytes.Repeat([]byte{byte(i)}, 40000))
				case i%7 == 0:
					b.PutTTL(key(i), []byte("mortal"), time.Duration(1+i%2)*time.Minute)
				default:
					b.Put(key(i), fmt.Append(nil, i))
				}
			}
			must(t, db.Write(b))
			must(t, db.Checkpoint(t.Context()))
			now = now.Add(90 * time.Second)
			rng := rand.New(rand.NewPCG(1, 2))
			for range 30 {
				keys := make([][]byte, rng.IntN(100))
				for i := range keys {
					keys[i] = key(rng.IntN(n + n/4))
				}
				must(t, db.View(func(tx *Tx) error { wantAsGet(t, tx, keys); return nil }))
			}
			mustCheck(t, db)
		})
	}
}

// A damaged record, and a place where the medium fails, are errors of their keys alone.
func TestGetManyBesideDamage(t *testing.T) {
	bad := &badRange{}
	db, err := OpenDevice(unmappedDevice{nvmap.NewMem(16 << 20), bad}, nil)
	must(t, err)
	defer db.Close()
	names := []string{"a", "b", "c", "d", "e"}
	for _, n := range names {
		must(t, db.Put([]byte(n), bytes.Repeat([]byte(n), 9000))) // a page of its own
	}
	place := func(key string) nvmap.Off {
		var h btree.Hit
		if res := db.ix.Lookup([]byte(key), &h); res != btree.Found {
			t.Fatalf("%s is not found", key)
		}
		return btree.RefOff(h.Rec)
	}
	must(t, db.m.Write(place("b")+5000, []byte{0}))
	o := place("d")
	bad.from, bad.to = (o + nvmap.PageBytes).Page().Off(), (o+nvmap.PageBytes).Page().Off()+nvmap.PageBytes
	var keys [][]byte
	for _, n := range append(names, "x") {
		keys = append(keys, []byte(n))
	}
	for i, a := range gotMany(t, db.GetMany, keys) {
		var want error
		switch string(keys[i]) {
		case "b":
			want = ErrCorrupt
		case "d":
			want = ErrMediaFault
		case "x":
			want = ErrNotFound
		}
		if !errors.Is(a.err, want) || a.err == nil && a.value != strings.Repeat(names[i], 9000) {
			t.Errorf("%s: %d bytes, %v; want %v", keys[i], len(a.value), a.err, want)
		}
	}
}

// fn stops the lookups, and may end the Tx; calls that cannot work are refused.
func TestGetManyEnds(t *testing.T) {
	db := openMem(t)
	fill(t, db, "a", "b")
	keys := [][]byte{[]byte("a"), []byte("b")}
	calls := 0
	stop := func(int, []byte, error) bool { calls++; return false }
	must(t, db.GetMany(keys, stop))
	must(t, db.GetMany(nil, stop))
	if calls != 1 {
		t.Errorf("fn was called %d times", calls)
	}
	wantErr(t, "a nil fn", db.GetMany(keys, nil), errNil)
	tx, err := db.Begin(false)
	must(t, err)
	wantErr(t, "Rollback in fn", tx.GetMany(keys, func(int, []byte, error) bool { must(t, tx.Rollback()); return true }), ErrTxClosed)
	wantErr(t, "after Rollback", tx.GetMany(keys, stop), ErrTxClosed)
	must(t, db.GetMany(keys, func(i int, v []byte, err error) bool { // writes are free to come between
		must(t, db.Put(keys[1], []byte("later")))
		if i == 1 && string(v) != "b" {
			t.Errorf("b has %q", v)
		}
		return true
	}))
	must(t, db.Close())
	wantErr(t, "after Close", db.GetMany(keys, stop), ErrClosed)
}

// Batches that put one number under many keys are seen whole.
func TestGetManySeesOneInstant(t *testing.T) {
	db := openMem(t)
	var keys [][]byte
	for i := range 40 {
		keys = append(keys, fmt.Appendf(nil, "key%02d", i))
	}
	write := func(n int) {
		b := db.NewBatch()
		for _, k := range keys {
			b.Put(k, fmt.Append(nil, n))
		}
		must(t, db.Write(b))
	}
	write(0)
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for range 200 {
				as := gotMany(t, db.GetMany, keys)
				for _, a := range as {
					if a != as[0] {
						t.Errorf("%v beside %v", a, as[0])
						return
					}
				}
			}
		})
	}
	for n := range 200 {
		write(n)
	}
	wg.Wait()
}
