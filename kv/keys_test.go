package kv

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"nvkv/kv/internal/btree"
	"nvkv/nvmap"
)

// namesOf returns what a sequence of keys yields.
func namesOf(seq func(func(k []byte) bool)) (out []string) {
	for k := range seq {
		out = append(out, string(k))
	}
	return out
}

// Keys yields the keys that All yields, in every range, in every kind of Tx.
func TestKeysAreThoseOfAll(t *testing.T) {
	keys := []string{"", "a", "b", "ba", "c", strings.Repeat("d", 40), strings.Repeat("d", 1200), strings.Repeat("e", 9000) + "1", strings.Repeat("e", 9000) + "2", "f"}
	inTx(t, keys, func(t *testing.T, tx *Tx) {
		bounds := [][]byte{nil, {}, []byte("a"), []byte("aa"), []byte("b"), []byte("d"), []byte("e"), []byte("f"), []byte("z")}
		for _, start := range bounds {
			for _, end := range bounds {
				want := keysOf(tx.All(start, end))
				if got := namesOf(tx.Keys(start, end)); !slices.Equal(got, want) {
					t.Errorf("Keys(%q, %q) yields %.200q, All %.200q", start, end, got, want)
				}
				slices.Reverse(want)
				if got := keysOf(tx.Backward(start, end)); !slices.Equal(got, want) {
					t.Errorf("Backward(%q, %q) yields %.200q, want %.200q", start, end, got, want)
				}
			}
		}
		for _, p := range []string{"", "b", "ba", "d", "e", "x"} {
			want := keysOf(tx.Prefix([]byte(p)))
			slices.Reverse(want)
			if got := keysOf(tx.PrefixBackward([]byte(p))); !slices.Equal(got, want) {
				t.Errorf("PrefixBackward(%q) yields %.200q, want %.200q", p, got, want)
			}
		}
		must(t, tx.Err())
	})
}

// Keys of many leaves stay as they are until the Tx ends, on every kind of device.
func TestKeysOfManyLeaves(t *testing.T) {
	for name, dev := range map[string]nvmap.Device{"mapped": nvmap.NewMem(64 << 20), "unmapped": unmappedDevice{Device: nvmap.NewMem(64 << 20)}} {
		t.Run(name, func(t *testing.T) {
			db, err := OpenDevice(dev, nil)
			must(t, err)
			defer db.Close()
			rng := rand.New(rand.NewPCG(1, 2))
			b := db.NewBatch()
			var want []string
			for i := range 5000 {
				k := fmt.Sprintf("%05d%s", i, strings.Repeat("x", rng.IntN(60)))
				if i%500 == 0 {
					k += strings.Repeat("y", 300)
				}
				want = append(want, k)
				b.Put([]byte(k), []byte("value"))
			}
			must(t, db.Write(b))
			must(t, db.View(func(tx *Tx) error {
				var kept [][]byte
				for k := range tx.Keys(nil, nil) {
					kept = append(kept, k)
				}
				if len(kept) != len(want) {
					t.Fatalf("%d keys of %d", len(kept), len(want))
				}
				for i, k := range kept {
					if string(k) != want[i] {
						t.Fatalf("key %d is %q, want %q", i, k, want[i])
					}
				}
				if got := namesOf(tx.Keys([]byte("02000"), []byte("02003"))); !slices.Equal(got, want[2000:2003]) {
					t.Errorf("the middle has %q", got)
				}
				return tx.Err()
			}))
			mustCheck(t, db)
		})
	}
}

// Keys reads no record: it yields the key of one that is damaged, which All cannot.
func TestKeysReadNoRecord(t *testing.T) {
	db, err := OpenDevice(nvmap.NewMem(16<<20), nil)
	must(t, err)
	defer db.Close()
	fill(t, db, "a", "b", "c")
	var h btree.Hit
	if res := db.ix.Lookup([]byte("b"), &h); res != btree.Found {
		t.Fatal("not found")
	}
	must(t, db.m.Write(btree.RefOff(h.Rec), bytes.Repeat([]byte{0xff}, 32)))
	must(t, db.View(func(tx *Tx) error {
		if got := namesOf(tx.Keys(nil, nil)); !slices.Equal(got, []string{"a", "b", "c"}) {
			t.Errorf("Keys yields %q", got)
		}
		must(t, tx.Err())
		if got := keysOf(tx.All(nil, nil)); len(got) == 3 || !errors.Is(tx.Err(), ErrCorrupt) {
			t.Errorf("All yields %q, %v: the damage shows nowhere", got, tx.Err())
		}
		return nil
	}))
}

// Keys passes keys that had expired when the Tx began, and reports a damaged record of one that
// may have.
func TestKeysPassExpired(t *testing.T) {
	now := time.Unix(1000, 0)
	db, err := OpenDevice(nvmap.NewMem(16<<20), &Options{Clock: func() time.Time { return now }})
	must(t, err)
	defer db.Close()
	for i := range 400 {
		must(t, db.PutTTL(fmt.Appendf(nil, "t%04d", i), []byte("v"), time.Second))
	}
	fill(t, db, "a", "z")
	must(t, db.PutTTL([]byte("m"), []byte("v"), time.Hour))
	now = now.Add(time.Minute)
	want := []string{"a", "m", "z"}
	view := func(tx *Tx) error {
		if got := namesOf(tx.Keys(nil, nil)); !slices.Equal(got, want) {
			t.Errorf("Keys yields %q, want %q", got, want)
		}
		return tx.Err()
	}
	must(t, db.View(view))
	must(t, db.Update(view))
	var h btree.Hit
	if res := db.ix.Lookup([]byte("m"), &h); res != btree.Found {
		t.Fatal("not found")
	}
	must(t, db.m.Write(btree.RefOff(h.Rec), bytes.Repeat([]byte{0xff}, 32)))
	want = want[:1]
	for _, err := range []error{db.View(view), db.Update(view)} {
		var e *CorruptError
		if !errors.As(err, &e) || string(e.Key) != "m" {
			t.Errorf("a damaged record with an expiry: %v", err)
		}
	}
}

// What is put ahead of the position is met, what is put behind it is not; a key that the caller
// deletes is not yielded.
func TestKeysBesideOwnWrites(t *testing.T) {
	db := openMem(t)
	fill(t, db, "b", "d", "f")
	must(t, db.Update(func(tx *Tx) error {
		var got []string
		for k := range tx.Keys(nil, nil) {
			got = append(got, string(k))
			if string(k) == "d" {
				must(t, tx.Put([]byte("c"), nil))
				must(t, tx.Put([]byte("e"), nil))
				must(t, tx.Delete([]byte("f")))
			}
		}
		if want := []string{"b", "d", "e"}; !slices.Equal(got, want) {
			t.Errorf("%q, want %q", got, want)
		}
		return tx.Err()
	}))
}

// A Tx that ends inside the loop ends the iteration; keys that are kept too long are spoilt on
// request.
func TestKeysEndWithTheirTx(t *testing.T) {
	db := openTest(t, "", &Options{Device: "mem", MaxBytes: 8 << 20, PoisonSlices: true})
	fill(t, db, "a", "b")
	tx, err := db.Begin(false)
	must(t, err)
	n := 0
	var kept []byte
	for k := range tx.Keys(nil, nil) {
		n++
		kept = k
		must(t, tx.Rollback())
	}
	if n != 1 || !errors.Is(tx.Err(), ErrTxClosed) {
		t.Errorf("%d keys, %v", n, tx.Err())
	}
	if string(kept) == "a" {
		t.Error("a key outlived its Tx")
	}
	if got := namesOf(tx.Keys(nil, nil)); got != nil {
		t.Errorf("after the end: %q", got)
	}
}
