package kv

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"nvkv/alloc"
	"nvkv/internal/effort"
	"nvkv/kv/internal/btree"
	"nvkv/nvmap"
)

// books is everything that the allocator has handed out, by slot and page.
type books struct {
	used     map[nvmap.Off]string // slots not reserved: kind, and whether live
	carved   int                  // slabs that are not free, without those of growth
	reserved btree.Stock
	tombs    int
	keys     int64
}

// audit reads the books of an idle store.
func audit(t *testing.T, db *DB) books {
	t.Helper()
	db.reclaimRest()
	b := books{used: map[nvmap.Off]string{}}
	must(t, db.withTurn(func() error {
		db.r.ReleaseEmpty()
		db.r.EachUsed(func(o nvmap.Off, k alloc.Kind, live bool) { b.used[o] = fmt.Sprintf("%v, live %v", k, live) })
		db.ix.EachReserved(func(o nvmap.Off) { delete(b.used, o) })
		s := db.r.Stats()
		b.carved = s.Slabs - s.FreeSlabs
		b.reserved, b.tombs, b.keys = db.ix.Reserved(), len(db.tombs), db.keys
		return nil
	}))
	return b
}

// same compares two audits and names some differences. Pages that were reserved for the next commit
// may have been given back, and a slab with them.
func (b books) same(t *testing.T, before books) {
	t.Helper()
	if b.carved > before.carved || b.reserved.Pages > before.reserved.Pages || b.reserved.Blocks > before.reserved.Blocks || b.tombs != before.tombs || b.keys != before.keys {
		t.Errorf("%d slabs in use, %+v reserved, %d tombstones, %d keys; before %d, %+v, %d, %d",
			b.carved, b.reserved, b.tombs, b.keys, before.carved, before.reserved, before.tombs, before.keys)
	}
	if maps.Equal(b.used, before.used) {
		return
	}
	t.Errorf("%d slots in use, before %d", len(b.used), len(before.used))
	shown := 0
	for _, o := range slices.Sorted(maps.Keys(b.used)) {
		if b.used[o] != before.used[o] && shown < 5 {
			t.Errorf("%#x: %s, before %q", o, b.used[o], before.used[o])
			shown++
		}
	}
}

// refusable is an operation that may find the store full. Each call of it must change something.
type refusable struct {
	name string
	do   func(db *DB, i int) error
}

// auditKeys is the number of keys at the beginning.
const auditKeys = 1000

func manyKeys(i, n int) (keys [][]byte) {
	rng := rand.New(rand.NewPCG(uint64(i), 3))
	for range n {
		keys = append(keys, fmt.Appendf(nil, "k%06d", rng.IntN(auditKeys)))
	}
	return keys
}

func refusables() []refusable {
	batch := func(n int, fn func(b *Batch, k []byte)) func(*DB, int) error {
		return func(db *DB, i int) error {
			b := db.NewBatch()
			for _, k := range manyKeys(i, n) {
				fn(b, k)
			}
			return db.Write(b)
		}
	}
	present := func(db *DB) (k []byte) {
		_ = db.View(func(tx *Tx) error {
			c := tx.Cursor()
			if c.First() {
				k = slices.Clone(c.Key())
			}
			return c.Close()
		})
		return k
	}
	return []refusable{
		{"put", func(db *DB, i int) error { return db.Put(fmt.Appendf(nil, "new%d", i), make([]byte, 333)) }},
		{"put of a long key", func(db *DB, i int) error { return db.Put(fmt.Appendf(make([]byte, 3000), "%d", i), make([]byte, 50)) }},
		{"put of a key in runs", func(db *DB, i int) error { return db.Put(fmt.Appendf(make([]byte, 40000), "%d", i), nil) }},
		{"put in runs", func(db *DB, i int) error { return db.Put(fmt.Appendf(nil, "large%d", i), make([]byte, 300_000)) }},
		{"delete", func(db *DB, _ int) error { return db.Delete(present(db)) }},
		{"batch of puts", batch(200, func(b *Batch, k []byte) { b.Put(append(k, "new"...), k) })},
		{"batch of deletes", batch(50, func(b *Batch, k []byte) { b.Delete(k) })},
		{"batch of both", batch(100, func(b *Batch, k []byte) {
			b.Delete(k)
			b.Put(append(k, 'n'), make([]byte, 5000))
		})},
		{"large batch", batch(1200, func(b *Batch, k []byte) { b.Put(k, make([]byte, 77)) })},
		{"range", func(db *DB, i int) error {
			k := present(db)
			return db.DeleteRange(k, append(slices.Clone(k[:len(k)-1]), 0xff))
		}},
		{"transaction", func(db *DB, i int) error {
			return db.Update(func(tx *Tx) error {
				if err := firstErr(tx.Put([]byte("t"), make([]byte, 100)), tx.Delete(present(db))); err != nil {
					return err
				}
				return tx.Put(fmt.Appendf(nil, "u%d", i), make([]byte, 70_000))
			})
		}},
		{"range in a transaction", func(db *DB, i int) error {
			return db.Update(func(tx *Tx) error { return tx.DeleteRange(present(db), fmt.Appendf(nil, "k%06d", 20*i)) })
		}},
		{"ranges and puts in a batch", func(db *DB, i int) error {
			b := db.NewBatch()
			b.DeleteRange(present(db), fmt.Appendf(nil, "k%06d", 20*i))
			for _, k := range manyKeys(i, 30) {
				b.DeleteRange(k, append(k, 'x'))
				b.Put(k, make([]byte, 200))
			}
			return db.Write(b)
		}},
		{"expiry", func(db *DB, i int) error { return db.PutTTL(fmt.Appendf(nil, "ttl%d", i), make([]byte, 20), 1<<50) }},
	}
}

// TestRefusalsLeaveNothing makes the allocator refuse the first request of an operation and all
// later ones, then the second, and so on. The operation fails with ErrFull, and the store is
// unchanged, to the slot and page.
func TestRefusalsLeaveNothing(t *testing.T) {
	for _, d := range []Durability{Sync, Relaxed} {
		for _, op := range refusables() {
			t.Run(fmt.Sprint(op.name, " ", d), func(t *testing.T) {
				t.Parallel()
				refuseEach(t, op, d)
			})
		}
	}
}

func refuseEach(t *testing.T, op refusable, d Durability) {
	dev := nvmap.NewMem(64 << 20)
	db, err := OpenDevice(dev, &Options{EvacuateBytes: -1, CheckpointBytes: 1 << 40, Durability: d, noGroupTimer: true})
	must(t, err)
	defer db.Close()
	inBatches(t, db, auditKeys, func(b *Batch, i int) { b.Put(fmt.Appendf(nil, "k%06d", i), make([]byte, i%300)) })
	refusals, done := 0, 0
	// Each of the first part requests is the first refused one once; of the later ones fewer and
	// fewer.
	part := effort.Pick(1, 3, 60, 1<<30)
	for i, n := 0, 1; done < 2; i, n = i+1, n+1+n/part { // in a store that changes meanwhile
		must(t, db.Checkpoint(t.Context()))
		if i%2 == 1 {
			must(t, db.withTurn(func() error { db.ix.KeepReserved(btree.Stock{}); return nil }))
		}
		before := audit(t, db)
		refuseFrom(t, db, n)
		err := op.do(db, i)
		refuseFrom(t, db, 0)
		switch {
		case err == nil:
			done, n = done+1, 0
		case !errors.Is(err, ErrFull) || errors.Is(err, ErrFailed):
			t.Fatalf("allocation %d refused: %v", n, err)
		default:
			refusals++
			audit(t, db).same(t, before)
		}
		if t.Failed() {
			t.Fatalf("allocation %d was refused", n)
		}
	}
	mustCheck(t, db)
	if refusals == 0 {
		t.Error("nothing was refused")
	}
}

// TestOtherRefusalsLeaveNothing: the same for operations that are too large or that their caller
// cancels.
func TestOtherRefusalsLeaveNothing(t *testing.T) {
	db, err := OpenDevice(nvmap.NewMem(16<<20), &Options{EvacuateBytes: -1, CheckpointBytes: 1 << 40})
	must(t, err)
	defer db.Close()
	inBatches(t, db, auditKeys, func(b *Batch, i int) { b.Put(fmt.Appendf(nil, "k%06d", i*7919%auditKeys), make([]byte, i%300)) })
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	tooLong := make([]byte, MaxKeyBytes+1)
	for name, op := range map[string]func() error{
		"put": func() error { return db.Put(tooLong, nil) },
		"batch": func() error {
			b := db.NewBatch()
			b.Put([]byte("a"), nil)
			b.Put(tooLong, nil)
			return db.Write(b)
		},
		"update": func() error {
			return db.Update(func(tx *Tx) error { return firstErr(tx.Put([]byte("a"), nil), tx.Put(tooLong, nil)) })
		},
		"value larger than the device": func() error { return db.Put([]byte("a"), make([]byte, 20<<20)) },
		"checkpoint":                   func() error { return db.Checkpoint(ended) },
		"compact":                      func() error { return db.Compact(ended) },
		"backup":                       func() error { return backUp(ended, db) },
	} {
		t.Run(name, func(t *testing.T) {
			must(t, db.Checkpoint(t.Context()))
			if name == "checkpoint" { // so that there is something to write
				must(t, db.Put([]byte("k000000"), nil))
			}
			before := audit(t, db)
			if err := op(); err == nil {
				t.Fatal("it was not refused")
			}
			audit(t, db).same(t, before)
		})
	}
}

func backUp(ctx context.Context, db *DB) error {
	_, err := db.Backup(ctx, io.Discard)
	return err
}

// TestCheckpointsTakeNothing: a checkpoint or a backup needs no further space.
func TestCheckpointsTakeNothing(t *testing.T) {
	db, err := OpenDevice(nvmap.NewMem(64<<20), &Options{EvacuateBytes: -1, CheckpointBytes: 1 << 40})
	must(t, err)
	defer db.Close()
	inBatches(t, db, auditKeys, func(b *Batch, i int) { b.Put(fmt.Appendf(nil, "k%06d", i), make([]byte, i%300)) })
	refuseFrom(t, db, 1)
	must(t, firstErr(db.Checkpoint(t.Context()), backUp(t.Context(), db)))
	refuseFrom(t, db, 0)
}

// TestRefusedBatchLeavesRoom: after a batch that does not fit, a store takes as many records as
// before. A batch that fits takes no more space than it needs.
func TestRefusedBatchLeavesRoom(t *testing.T) {
	t.Parallel()
	room := func(refuse bool) (n int) {
		db, err := OpenDevice(nvmap.NewMem(16<<20), &Options{EvacuateBytes: -1})
		must(t, err)
		defer db.Close()
		put := func(b *Batch, i int) { b.Put(fmt.Appendf(nil, "%08d", i*7919%1_000_003), make([]byte, 350)) }
		inBatches(t, db, 17_000, put)
		if refuse {
			b := db.NewBatch()
			for i := range 50_000 {
				put(b, 20_000+i)
			}
			if err := db.Write(b); !errors.Is(err, ErrFull) {
				t.Fatalf("a batch that does not fit: %v", err)
			}
		}
		for ; ; n++ {
			if err := db.Put(fmt.Appendf(nil, "more%08d", n), make([]byte, 350)); err != nil {
				return n
			}
		}
	}
	if with, without := room(true), room(false); with < without-without/50 {
		t.Errorf("%d records fit after a refused batch, %d without one", with, without)
	}
}
