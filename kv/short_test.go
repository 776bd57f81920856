package kv

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"nvkv/internal/effort"
	"nvkv/kv/internal/btree"
)

// scanned returns the results of a scan, as key=value.
func scanned(t testing.TB, db *DB, start, end []byte, n int) (out []string) {
	t.Helper()
	must(t, db.Scan(start, end, n, func(key, value []byte) bool {
		out = append(out, fmt.Sprintf("%s=%s", key, value))
		return true
	}))
	return out
}

// scans compares db.Scan with m, from every few keys on and with bounds.
func (m model) scans(t testing.TB, db *DB, ks []string) {
	t.Helper()
	for i := 0; i < len(ks); i += 1 + len(ks)/8 {
		for _, n := range []int{1, 20, shortMost} {
			to, end := len(ks), []byte(nil)
			if i%2 == 1 && i+10 < len(ks) {
				to = i + 10
				end = []byte(ks[to])
			}
			to = min(to, i+n)
			at := i
			err := db.Scan([]byte(ks[i]), end, n, func(key, value []byte) bool {
				if at >= to || string(key) != ks[at] || string(value) != m[ks[at]] {
					t.Fatalf("Scan of %d from %.40q: entry %d is %.40q (%d bytes)", n, ks[i], at-i, key, len(value))
				}
				at++
				return true
			})
			if err != nil || at != to {
				t.Fatalf("Scan of %d from %.40q to %.40q: %d entries, want %d, %v", n, ks[i], end, at-i, to-i, err)
			}
		}
	}
}

func TestScan(t *testing.T) {
	db := openMem(t)
	must(t, db.Scan(nil, nil, 10, func(_, _ []byte) bool { t.Error("met a key"); return true }))
	fill(t, db, "", "a", "b", "c")
	putExpired(t, db, "aa", []byte("gone"))
	must(t, db.PutTTL([]byte("bb"), []byte("stays"), time.Hour))
	large := strings.Repeat("x", db.r.LargestSlot())
	for _, c := range []struct {
		start, end []byte
		n          int
		want       string
	}{
		{nil, nil, 10, "=,a=a,b=b,bb=stays,c=c"},
		{nil, nil, -1, "=,a=a,b=b,bb=stays,c=c"},
		{nil, nil, 0, ""},
		{nil, nil, 2, "=,a=a"},
		{[]byte("a"), nil, 2, "a=a,b=b"},
		{[]byte("ab"), []byte("c"), 9, "b=b,bb=stays"},
		{[]byte("b"), []byte("b"), 9, ""},
		{nil, []byte{}, 9, ""},
		{[]byte("d"), nil, 9, ""},
	} {
		if got := strings.Join(scanned(t, db, c.start, c.end, c.n), ","); got != c.want {
			t.Errorf("Scan(%q, %q, %d) = %s, want %s", c.start, c.end, c.n, got, c.want)
		}
	}
	must(t, db.Put([]byte("bc"), []byte(large)))
	if got := scanned(t, db, []byte("bb"), nil, 3); !slices.Equal(got, []string{"bb=stays", "bc=" + large, "c=c"}) {
		t.Errorf("with a large value: %.80q", got)
	}
	met := 0
	must(t, db.Scan(nil, nil, 10, func(_, _ []byte) bool {
		met++
		must(t, db.Put([]byte("later"), nil)) // fn may write
		return met < 2
	}))
	if met != 2 {
		t.Errorf("fn was called %d times after it said 2", met)
	}
	must(t, db.Close())
	for _, n := range []int{0, 5, -1} {
		wantErr(t, "after Close", db.Scan(nil, nil, n, func(_, _ []byte) bool { return true }), ErrClosed)
	}
}

// TestScanDamaged: a rotten record is an error with its key, after the records before it.
func TestScanDamaged(t *testing.T) {
	path := filepath.Join(testDir(t), "s")
	db := openTest(t, path, nil)
	fill(t, db, "a", "b", "c")
	o := btree.RefOff(slotOf(t, db, "b"))
	must(t, db.m.Write(o+atNumber+4, []byte{0xff, 0xff, 0xff, 0xff}))
	for _, n := range []int{3, -1} {
		var met []string
		err := db.Scan(nil, nil, n, func(key, _ []byte) bool {
			met = append(met, string(key))
			return true
		})
		var bad *CorruptError
		if !errors.As(err, &bad) || string(bad.Key) != "b" || bad.Off != uint64(o) || !slices.Equal(met, []string{"a"}) {
			t.Errorf("Scan of %d: met %q, %v", n, met, err)
		}
	}
	abandon(db)
}

// TestScanDamagedAmongMany: one of the records that are read together is rotten.
func TestScanDamagedAmongMany(t *testing.T) {
	db := openTest(t, filepath.Join(testDir(t), "s"), nil)
	var keys []string
	for i := range 3 * chunkMost {
		keys = append(keys, fmt.Sprintf("%03d", i))
	}
	fill(t, db, keys...)
	for _, at := range []int{0, 1, 6, 7, 8, chunkFirst + chunkMost, len(keys) - 2, len(keys) - 1} {
		o := btree.RefOff(slotOf(t, db, keys[at]))
		b := bytes.Clone(db.m.View(o, 8))
		must(t, db.m.Write(o, append(slices.Clone(b[:4]), 1, 2, 3, 4)))
		check := func(what string, met, want []string, err error) {
			var bad *CorruptError
			if !errors.As(err, &bad) || string(bad.Key) != keys[at] || bad.Off != uint64(o) || !slices.Equal(met, want) {
				t.Errorf("%s with %s damaged: met %q, %v", what, keys[at], met, err)
			}
		}
		for _, n := range []int{len(keys), -1} {
			var met []string
			err := db.Scan(nil, nil, n, func(key, _ []byte) bool {
				met = append(met, string(key))
				return true
			})
			check(fmt.Sprintf("Scan of %d", n), met, keys[:at], err)
		}
		var met []string
		err := db.View(func(tx *Tx) error {
			for key := range tx.Backward(nil, nil) {
				met = append(met, string(key))
			}
			return tx.Err()
		})
		slices.Reverse(met)
		check("Backward", met, keys[at+1:], err)
		must(t, db.m.Write(o, b))
	}
	mustCheck(t, db)
}

// TestScanOneInstant: a writer sets a key in the first leaf and then one in the last leaf. Between
// them it puts and deletes keys in pairs, so that leaves split and merge. A scan never sees the
// second key newer than the first, nor half of a pair that a batch put or deleted.
func TestScanOneInstant(t *testing.T) {
	db := openTest(t, filepath.Join(testDir(t), "s"), &Options{SlabBytes: 8192, CheckpointBytes: 256 << 10})
	pad := strings.Repeat("-", 300) // a dozen keys per leaf
	first, last := []byte("a"), []byte("z")
	must(t, db.Put(first, linearBytes(0)))
	must(t, db.Put(last, linearBytes(0)))
	var stop atomic.Bool
	var wg sync.WaitGroup
	short := 0
	wg.Go(func() {
		defer stop.Store(true)
		for range effort.Pick(100, 200, 2000, 2000) {
			var seen []string
			var values [][]byte
			err := db.Scan(nil, nil, shortMost, func(key, value []byte) bool {
				seen = append(seen, strings.TrimSuffix(string(key), pad))
				values = append(values, bytes.Clone(value))
				return true
			})
			if err != nil || len(seen) < 2 || !slices.IsSorted(seen) {
				t.Errorf("%q, %v", seen, err)
				return
			}
			a, errA := linearValue(values[0], nil)
			z, errZ := linearValue(values[len(values)-1], nil)
			if errA != nil || errZ != nil || a != z && a != z+1 {
				t.Errorf("first key %d, last key %d, %v, %v", a, z, errA, errZ)
				return
			}
			pairs := seen[1 : len(seen)-1]
			for len(pairs) > 0 && strings.HasPrefix(pairs[0], "left") {
				other := "right" + strings.TrimPrefix(pairs[0], "left")
				if !slices.Contains(pairs, other) {
					t.Errorf("%s without %s", pairs[0], other)
					return
				}
				pairs = slices.DeleteFunc(pairs[1:], func(k string) bool { return k == other })
			}
			if len(pairs) > 0 {
				t.Errorf("left over: %q", pairs)
				return
			}
			short++
		}
	})
	rng := rand.New(rand.NewPCG(1, 2))
	there := map[int]bool{}
	for n := uint64(1); !stop.Load(); n++ {
		must(t, db.Put(first, linearBytes(n)))
		must(t, db.Put(last, linearBytes(n)))
		b, i := db.NewBatch(), rng.IntN(100)
		for _, side := range []string{"left", "right"} {
			key := fmt.Appendf(nil, "%s%03d%s", side, i, pad)
			if there[i] {
				b.Delete(key)
			} else {
				b.Put(key, []byte(side))
			}
		}
		there[i] = !there[i]
		must(t, db.Write(b))
		if n%500 == 0 {
			must(t, db.Checkpoint(context.Background()))
		}
	}
	wg.Wait()
	t.Logf("%d scans", short)
	mustCheck(t, db)
}
