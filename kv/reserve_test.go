package kv

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"

	"nvkv/kv/internal/btree"
	"nvkv/nvmap"
)

// memStore opens a store in memory without background activity.
func memStore(t testing.TB, o *Options) *DB {
	t.Helper()
	if o == nil {
		o = &Options{}
	}
	o.EvacuateBytes = -1
	db, err := OpenDevice(nvmap.NewMem(1<<30), o)
	must(t, err)
	t.Cleanup(func() { must(t, db.Close()) })
	return db
}

func smallKey(i int) []byte { return fmt.Appendf(nil, "key%013d", i) }

// TestLongKeyCostsOthersNothing: a key in overflow pages, existing or deleted long ago, does not
// change the space that other keys take.
func TestLongKeyCostsOthersNothing(t *testing.T) {
	size := func(long int, stays bool) int64 {
		db := memStore(t, nil)
		if long > 0 {
			key := bytes.Repeat([]byte("l"), long)
			must(t, db.Put(key, nil))
			if !stays {
				must(t, db.Delete(key))
			}
		}
		b := db.NewBatch()
		for i := range 10_000 {
			b.Put(smallKey(i), make([]byte, 100))
		}
		must(t, db.Write(b))
		for i := range 1000 {
			must(t, db.Put(smallKey(5*i), make([]byte, 100)))
		}
		return db.Metrics().DeviceBytes
	}
	for _, long := range []int{901, 32 << 10, MaxKeyBytes} {
		for _, stays := range []bool{false, true} {
			if with := size(long, stays); with > 5<<20 {
				t.Errorf("with a key of %d bytes (it stays: %v) the store takes %d bytes", long, stays, with)
			}
		}
	}
	if n := size(0, false); n > 4_500_000 {
		t.Errorf("10,000 small records take %d bytes", n)
	}
}

// TestReserveIsTight: a batch reserves little more than the index takes in the end.
func TestReserveIsTight(t *testing.T) {
	db := memStore(t, nil)
	b := db.NewBatch()
	for i := range 100_000 {
		b.Put(smallKey(i), nil)
	}
	must(t, db.Write(b))
	m := db.Metrics()
	if index := int64(m.IndexLeaves) * (nvmap.PageBytes + 1024); m.UsedBytes > m.LiveBytes+index/2 {
		t.Errorf("%d bytes are used, %d live, of which the index has %d", m.UsedBytes, m.LiveBytes, index)
	}
}

// TestReserveSuffices: no commit takes more pages and blocks than were reserved for it, for all
// kinds of trees and commits.
func TestReserveSuffices(t *testing.T) {
	for seed := range uint64(12) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			reserveSuffices(t, seed, 250)
		})
	}
}

// reserveSuffices makes random commits, each without a stock of reserved pages.
func reserveSuffices(t *testing.T, seed uint64, commits int) {
	rng := rand.New(rand.NewPCG(seed, 3))
	db := memStore(t, &Options{privateFrom: []int{0, 20}[seed%2]})
	shared := bytes.Repeat([]byte("p"), []int{0, 0, 300, 3000}[rng.IntN(4)])
	lengths := []int{1, 4, 20, 300, 890, 899, 1200, 5000}[:4+rng.IntN(5)]
	keys := 50 + rng.IntN(4000)
	key := func() []byte {
		i := rng.IntN(keys)
		n := lengths[i%len(lengths)]
		if i%7 > 0 && seed%3 > 0 {
			n = lengths[0]
		}
		k := fmt.Appendf(bytes.Clone(shared), "%0*d", 1+i%9, i)
		return append(k, bytes.Repeat([]byte("k"), n)...)
	}
	for i := range commits {
		db.ix.BeyondReserve()
		must(t, db.withTurn(func() error { db.ix.KeepReserved(btree.Stock{}); return nil }))
		before := db.Metrics()
		must(t, randomCommit(db, rng, key))
		if i%20 == 0 {
			must(t, db.Checkpoint(t.Context()))
		}
		if n := db.ix.BeyondReserve(); n > 0 {
			t.Fatalf("seed %d, commit %d: %d pages beyond the reserve; %d leaves before, %d now", seed, i, n,
				before.IndexLeaves, db.Metrics().IndexLeaves)
		}
	}
	mustCheck(t, db)
}

// randomCommit commits a put, a delete, a batch or a range.
func randomCommit(db *DB, rng *rand.Rand, key func() []byte) error {
	switch n := rng.IntN(10); {
	case n < 3:
		return db.Put(key(), nil)
	case n < 4:
		return db.Delete(key())
	case n == 4:
		a, b := key(), key()
		if bytes.Compare(a, b) > 0 {
			a, b = b, a
		}
		if rng.IntN(3) > 0 {
			b = append(a[:len(a)-len(a)/8:len(a)-len(a)/8], 0xff)
		}
		return db.DeleteRange(a, b)
	}
	b, deletes := db.NewBatch(), []int{0, 0, 3, 7, 10}[rng.IntN(5)]
	order := rng.IntN(3) == 0
	from := key()
	for range 1 + rng.IntN(1<<rng.IntN(11)) {
		k := key()
		if order {
			k = append(bytes.Clone(from), k[max(0, len(k)-30):]...)
		}
		if rng.IntN(10) < deletes {
			b.Delete(k)
		} else {
			b.Put(k, nil)
		}
	}
	return db.Write(b)
}

// TestEmptiedLeavesMerge: a queue of keys whose common prefix is longer than a page keeps stays in
// few leaves.
func TestEmptiedLeavesMerge(t *testing.T) {
	for _, shared := range []int{0, 1000, 3500} {
		db := memStore(t, nil)
		prefix := bytes.Repeat([]byte("q"), shared)
		key := func(i int) []byte { return fmt.Appendf(prefix[:shared:shared], "%08d", i) }
		const waiting, puts = 60, 800
		for i := range puts {
			must(t, db.Put(key(i), nil))
			if i >= waiting {
				must(t, db.Delete(key(i-waiting)))
			}
		}
		if n := db.Metrics().IndexLeaves; n > 8 {
			t.Errorf("%d keys with %d bytes in common have %d leaves", waiting, shared, n)
		}
		mustCheck(t, db)
	}
}
