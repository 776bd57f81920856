//go:build unix

package kv

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"nvkv/internal/effort"
	"nvkv/kv/internal/btree"
	"nvkv/nvmap"
)

// thin deletes all but one in keep keys, batch keys at a time.
func thin(t testing.TB, db *DB, m model, keep, batch int) {
	t.Helper()
	b := db.NewBatch()
	keys := m.keys()
	for i, k := range keys {
		if i%keep > 0 {
			b.Delete([]byte(k))
			delete(m, k)
		}
		if b.Len() < batch && i+1 < len(keys) {
			continue
		}
		if err := db.Write(b); err != nil {
			t.Fatal(err)
		}
		b.Reset()
	}
}

// allocated returns how many bytes the file system has allocated for a file.
func allocated(t testing.TB, path string) int64 {
	t.Helper()
	fi, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	st, ok := fi.Sys().(*syscall.Stat_t)
	if !ok {
		effort.NotTested(t, "this system does not say how many blocks a file has")
	}
	return st.Blocks * 512
}

func TestCompactGivesSpaceBack(t *testing.T) {
	skipInRace(t)
	t.Parallel()
	for _, kind := range []string{"shm", "disk"} {
		t.Run(kind, func(t *testing.T) {
			dir := testDir(t)
			if kind == "disk" {
				dir = t.TempDir()
			}
			path := filepath.Join(dir, "s")
			db := openTest(t, path, &Options{EvacuateBytes: -1})
			m := fillRandom(t, db, 30_000, 600, 1)
			thin(t, db, m, 10, 20)
			full := allocated(t, path)
			if err := db.Compact(context.Background()); err != nil {
				t.Fatal(err)
			}
			if err := firstErr(holds(db, m), clean(db)); err != nil {
				t.Fatal(err)
			}
			live, now := db.Metrics().LiveBytes, allocated(t, path)
			t.Logf("blocks: %d bytes full, %d after; %d live", full, now, live)
			if now > live*3/2+(2<<20) {
				t.Errorf("%d bytes of blocks for %d live", now, live)
			}
			if err := db.Close(); err != nil {
				t.Fatal(err)
			}
			if fi, _ := os.Stat(path); fi.Size() > full*2/3 {
				t.Errorf("after Close the file has %d bytes, it had blocks for %d", fi.Size(), full)
			}
			again := openTest(t, path, &Options{EvacuateBytes: -1})
			if err := firstErr(holds(again, m), clean(again)); err != nil {
				t.Error(err)
			}
			for k, v := range fillRandom(t, again, 30_000, 600, 2) { // over discarded blocks
				m[k] = v
			}
			if err := firstErr(holds(again, m), clean(again)); err != nil {
				t.Error(err)
			}
		})
	}
}

// Compact rewrites records in the order of their keys.
func TestCompactOrders(t *testing.T) {
	db := openTest(t, filepath.Join(testDir(t), "s"), &Options{EvacuateBytes: -1})
	m := model{}
	for _, i := range rand.New(rand.NewPCG(1, 1)).Perm(20_000) {
		k, v := fmt.Sprintf("key/%07d", i), strings.Repeat("v", 100)
		if m[k] = v; db.Put([]byte(k), []byte(v)) != nil {
			t.Fatal(k)
		}
	}
	before := jumps(t, db)
	if err := db.Compact(context.Background()); err != nil {
		t.Fatal(err)
	}
	if err := holds(db, m); err != nil {
		t.Fatal(err)
	}
	after := jumps(t, db)
	t.Logf("jumps from record to record: %d, then %d of %d", before, after, len(m))
	if after > len(m)/5 || after > before/3 {
		t.Errorf("%d jumps from record to record of %d, before %d", after, len(m), before)
	}
	moved := db.evac.records
	if err := db.Compact(context.Background()); err != nil {
		t.Fatal(err)
	}
	if again := db.evac.records - moved; again > uint64(len(m)/10) {
		t.Errorf("a second Compact moved %d records of %d", again, len(m))
	}
}

// jumps counts how often the next record of the same class is not within reach of the next slab.
func jumps(t testing.TB, db *DB) (n int) {
	t.Helper()
	c := btree.NewCursor(&db.ix, false)
	last := map[int]nvmap.Off{}
	err := c.First(db.ix.Root())
	for ; err == nil && c.Valid(); err = c.Next() {
		o := btree.RefOff(c.Ref())
		d, _ := db.r.Describe(o)
		if before := last[d.SlotBytes]; before != 0 && (o < before || o > before+nvmap.Off(db.r.SlabBytes())) {
			n++
		}
		last[d.SlotBytes] = o
	}
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// Records that a snapshot sees stay readable and in their places while everything around them
// moves. The space that it pinned is free afterwards.
func TestCompactBesideSnapshot(t *testing.T) {
	db := openTest(t, filepath.Join(testDir(t), "s"), &Options{EvacuateBytes: -1})
	m := fillRandom(t, db, 5000, 200, 1)
	want := m.with(nil)
	tx, err := db.Begin(false)
	if err != nil {
		t.Fatal(err)
	}
	thin(t, db, m, 3, 20)
	if err := db.Compact(context.Background()); err != nil {
		t.Fatal(err)
	}
	if err := sameAs(tx, want); err != nil {
		t.Error(err)
	}
	if db.evac.records != 0 {
		t.Errorf("%d records moved that a snapshot sees", db.evac.records)
	}
	if err := firstErr(tx.Rollback(), db.Compact(context.Background()), holds(db, m), clean(db)); err != nil {
		t.Error(err)
	}
	if db.evac.records == 0 {
		t.Error("nothing moved after the snapshot")
	}
}

// Moves keep expiries, values in runs and keys of every length.
func TestCompactKeepsAll(t *testing.T) {
	db := backupStore(t, filepath.Join(testDir(t), "s"))
	for i := range 40 { // run slabs to be emptied
		k := fmt.Appendf(nil, "big/%02d", i)
		if err := db.Put(k, []byte(strings.Repeat("b", 17_000+i*1000))); err != nil {
			t.Fatal(err)
		}
		if i%4 > 0 {
			if err := db.Delete(k); err != nil {
				t.Fatal(err)
			}
		}
	}
	want, err := contents(db)
	if err != nil {
		t.Fatal(err)
	}
	was := expiries(t, db)
	db.opt.tidySlack = 1
	if err := db.Compact(context.Background()); err != nil {
		t.Fatal(err)
	}
	if err := firstErr(holds(db, want), clean(db)); err != nil {
		t.Error(err)
	}
	for k, at := range expiries(t, db) {
		if was[k] != at {
			t.Errorf("%s expires at %d, was %d", shortKey(k), at, was[k])
		}
	}
}

func TestCompactEnds(t *testing.T) {
	db := openTest(t, filepath.Join(testDir(t), "s"), &Options{EvacuateBytes: -1})
	m := fillRandom(t, db, 5000, 100, 1)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := db.Compact(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	if err := firstErr(holds(db, m), clean(db)); err != nil {
		t.Error(err)
	}
	if err := db.Update(func(*Tx) error { return db.Compact(context.Background()) }); err != nil {
		t.Errorf("inside Update: %v", err)
	}
	if err := firstErr(holds(db, m), clean(db)); err != nil {
		t.Error(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if err := db.Compact(context.Background()); !errors.Is(err, ErrClosed) {
		t.Errorf("closed: %v", err)
	}
}

// The background does what Compact does, step by step, and then rests.
func TestEvacuatorWakesAndRests(t *testing.T) {
	path := filepath.Join(testDir(t), "s")
	db := openTest(t, path, &Options{tidySlack: 512 << 10})
	m := fillRandom(t, db, 30_000, 600, 1)
	thin(t, db, m, 10, 20)
	live := db.Metrics().LiveBytes
	deadline := time.Now().Add(effort.Hang)
	for allocated(t, path) > live*3/2+(4<<20) {
		if time.Now().After(deadline) {
			t.Fatalf("%d bytes of blocks for %d live: %+v", allocated(t, path), live, db.Metrics())
		}
		time.Sleep(20 * time.Millisecond)
	}
	rounds := uint64(0)
	for calm := 0; calm < 3; { // three looks, each longer than tidyDelay, without a change
		time.Sleep(tidyDelay + 50*time.Millisecond)
		db.turn.hold()
		now := db.evac.rounds
		db.turn.give()
		if calm++; now != rounds {
			rounds, calm = now, 0
		}
		if time.Now().After(deadline) {
			t.Fatalf("after %d rounds it does not rest", now)
		}
	}
	if rounds > 4 {
		t.Errorf("%d rounds", rounds)
	}
	if err := firstErr(holds(db, m), clean(db)); err != nil {
		t.Error(err)
	}
}

// A full store from which half is deleted takes as much again.
func TestFullStoreTakesNewKeys(t *testing.T) {
	skipInRace(t)
	for _, c := range []struct{ was, is int }{{100, 100}, {100, 400}, {400, 100}, {1000, 60}} {
		t.Run(fmt.Sprintf("%d then %d", c.was, c.is), func(t *testing.T) {
			t.Parallel()
			db, err := OpenDevice(nvmap.NewMem(16<<20), &Options{EvacuateBytes: -1})
			if err != nil {
				t.Fatal(err)
			}
			defer db.Close()
			m := model{}
			first := fillFull(t, db, m, "a", c.was)
			thin(t, db, m, 2, 1)
			second := fillFull(t, db, m, "b", c.is)
			t.Logf("%d bytes, half deleted, %d bytes again", first, second)
			if second < first*35/100 {
				t.Errorf("a full store took %d bytes; half of them deleted it took %d more", first, second)
			}
			if err := firstErr(holds(db, m), clean(db)); err != nil {
				t.Error(err)
			}
		})
	}
}

// fullOverhead is the approximate cost of a short record besides its bytes: a header, the rest of
// its slot, and its entry in the index.
const fullOverhead = 70

// fillFull puts keys in random order until the store is full, and returns how many bytes of them it
// took.
func fillFull(t testing.TB, db *DB, m model, prefix string, size int) (n int) {
	t.Helper()
	v := strings.Repeat("v", size)
	rng := rand.New(rand.NewPCG(7, 7))
	for {
		k := fmt.Sprintf("%s%016x", prefix, rng.Uint64())
		switch err := db.Put([]byte(k), []byte(v)); {
		case err == nil:
			m[k] = v
			n += len(k) + len(v) + fullOverhead
		case errors.Is(err, ErrFull) && !errors.Is(err, ErrFailed):
			return n
		default:
			t.Fatal(err)
		}
	}
}

// Writes are spread over the medium, even if they all go to a few keys.
func TestWearIsSpread(t *testing.T) {
	skipInRace(t)
	t.Parallel()
	db, err := OpenDevice(nvmap.NewMem(64<<20), &Options{EvacuateBytes: -1, CheckpointBytes: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	fillRandom(t, db, 40_000, 400, 1) // then most of it is free
	if err := firstErr(db.DeleteRange([]byte("key/"), []byte("key0")), db.Checkpoint(context.Background())); err != nil {
		t.Fatal(err)
	}
	before := db.r.Wear()
	v := make([]byte, 400)
	for i := range 300_000 {
		if err := db.Put([]byte{byte('a' + i%5)}, v); err != nil {
			t.Fatal(err)
		}
	}
	most, sum := uint64(0), uint64(0)
	after := db.r.Wear()
	for g := range before {
		most, sum = max(most, after[g]-before[g]), sum+after[g]-before[g]
	}
	mean := sum / uint64(len(before))
	m := db.Metrics()
	t.Logf("5 keys updated 300,000 times: %d groups, %d bytes into the one with most, %d on average", len(before), most, mean)
	if most > 4*mean || m.WearMaxBytes < m.WearMeanBytes || m.WearGroups != len(after) {
		t.Errorf("%d bytes into one group, %d on average; metrics %d, %d", most, mean, m.WearMaxBytes, m.WearMeanBytes)
	}
}
