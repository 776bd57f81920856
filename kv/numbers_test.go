package kv

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"nvkv/alloc"
	"nvkv/internal/effort"
	"nvkv/kv/internal/record"
	"nvkv/nvmap"
)

// setRun changes the number of openings of a closed store, on the medium.
func setRun(t *testing.T, dev nvmap.Device, run uint32) {
	t.Helper()
	m, err := nvmap.NewMap(dev, nil)
	if err != nil {
		t.Fatal(err)
	}
	r, err := alloc.Open(m)
	if err != nil {
		t.Fatal(err)
	}
	st, err := decodeState(r.Payload())
	if err != nil {
		t.Fatal(err)
	}
	st.run = run
	for range 2 { // both generations
		if err := r.WriteSuper(st.encode()); err != nil {
			t.Fatal(err)
		}
	}
}

func openOn(t *testing.T, dev nvmap.Device, o *Options) *DB {
	t.Helper()
	db, err := OpenDevice(dev, o)
	must(t, err)
	return db
}

// A store can be opened more often than 24 bits can count. When 30 bits are used up, an opening for
// writing says so, and reading continues.
func TestManyOpenings(t *testing.T) {
	dev := keptDevice{nvmap.NewMem(1 << 24)}
	db := openOn(t, dev, nil)
	if err := db.Put([]byte("k"), []byte("v")); err != nil {
		t.Fatal(err)
	}
	must(t, db.Close())
	setRun(t, dev, 1<<24-1)
	for i := range 3 {
		db := openOn(t, dev, nil)
		if want := uint32(1<<24 + i); db.run != want {
			t.Fatalf("run %d, want %d", db.run, want)
		}
		if err := db.Put(fmt.Append(nil, i), []byte("v")); err != nil {
			t.Fatal(err)
		}
		if i == 1 {
			abandon(db)
			continue
		}
		must(t, db.Close())
	}
	setRun(t, dev, record.MaxRun-1)
	must(t, openOn(t, dev, nil).Close())
	if _, err := OpenDevice(dev, nil); err == nil || !strings.Contains(err.Error(), "1073741823 times") {
		t.Fatalf("an opening without a number: %v", err)
	}
	db = openOn(t, dev, &Options{ReadOnly: true})
	defer db.Close()
	for _, k := range []string{"k", "0", "1", "2"} {
		if v, err := db.Get([]byte(k)); string(v) != "v" {
			t.Errorf("%s: %q, %v", k, v, err)
		}
	}
}

// TestR4_RunsAreRenewed is the crash suite with runs that end after a few transactions while the
// store is open.
func TestR4_RunsAreRenewed(t *testing.T) {
	skipInRace(t)
	operations := effort.Pick(15, 15, 15, 300)
	for _, seed := range crashSeeds(t, effort.Pick[uint64](2, 2, 2, 40)) {
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
			t.Parallel()
			c := newCrasher(seed)
			if seed%2 == 1 {
				c = relaxedCrasher(seed)
			}
			c.images, c.chain = []int{2, 1, 1}, 60
			c.opt.renewAt, c.ops[0] = 1+seed%5, operations
			if err := runCrashes(c); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestR4_RenewalIsWritten: a run ends with a freeze, and the first record of the next run comes
// before the flip. Without the superblock that begins that run, the record does not count.
func TestR4_RenewalIsWritten(t *testing.T) {
	tellTwice(t, ruleR4, func(s *session) error {
		abandon(s.db)
		s.c.opt.renewAt = 1
		return script(s.open,
			func() error { return s.do(put("a", "1")) },
			func() error {
				wrote := false
				s.m.Hook(func(fence bool) {
					if fence && !wrote && s.db.turn.held.Load() == 0 { // during the checkpoint
						wrote = true
						s.err = firstErr(s.err, s.write([]change{put("b", "2")}, true))
						s.crash(20)
					}
				})
				err := s.db.Checkpoint(context.Background())
				s.m.Hook(nil)
				if !wrote {
					err = errors.New("nothing was written beside the checkpoint")
				}
				return firstErr(s.failure(), err)
			},
		)
	})
}

// A run whose counter nears its end is ended while writers write, in both modes. No writer is
// refused, and all writes are found after the store dies.
func TestRunEndsWhileOpen(t *testing.T) {
	for _, mode := range []Durability{Sync, Relaxed} {
		dev := keptDevice{nvmap.NewMem(1 << 24)}
		o := &Options{Durability: mode}
		db := openOn(t, dev, o)
		for round := range 3 {
			must(t, db.Sync())
			db.turn.hold()
			db.counter = defaultRenewAt - 1
			db.visible = record.MakeNumber(db.run, db.counter)
			db.turn.give()
			run := db.run
			var wg sync.WaitGroup
			errs := make([]error, 4)
			for w := range errs {
				wg.Go(func() {
					for i := range 30 {
						k := fmt.Appendf(nil, "%d.%d.%d", round, w, i)
						errs[w] = errors.Join(errs[w], db.Put(k, k), db.Update(func(tx *Tx) error { return tx.Put(append(k, 'u'), k) }))
					}
				})
			}
			wg.Wait()
			must(t, errors.Join(errs...))
			if db.run != run+1 {
				t.Fatalf("run %d, want %d", db.run, run+1)
			}
		}
		must(t, db.Sync())
		abandon(db)
		db = openOn(t, dev, o)
		if n := db.Metrics().Keys; n != 3*4*30*2 {
			t.Errorf("%v: %d keys, want %d", mode, n, 3*4*30*2)
		}
		mustCheck(t, db)
		must(t, db.Close())
	}
}
