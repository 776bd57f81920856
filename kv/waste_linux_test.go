package kv

import (
	"context"
	"math"
	"path/filepath"
	"testing"
	"time"

	"nvkv/alloc"
	"nvkv/nvmap"
)

// A store at rest takes checkpoints until it holds no index but its own, and gives free slabs back.
// It does that once, and not if it would write much for little.
func TestSettle(t *testing.T) {
	path := filepath.Join(testDir(t), "s")
	db := openTest(t, path, &Options{EvacuateBytes: NoEvacuation, tidySlack: 64 << 10})
	keys := 30_000
	if raceBuild {
		keys *= 4 // fillRandom writes a quarter of them
	}
	m := fillRandom(t, db, keys, 100, 1)
	if err := db.Checkpoint(context.Background()); err != nil {
		t.Fatal(err)
	}
	for k := range m {
		m[k] = "changed"
		if err := db.Put([]byte(k), []byte("changed")); err != nil {
			t.Fatal(err)
		}
	}
	looks := func(idle int) (settles, rests bool) {
		db.turn.hold()
		defer db.turn.give()
		return db.settles(), db.atRest(&looks{idle: idle})
	}
	before := db.Metrics()
	if settles, rests := looks(idleLooks); !settles || !rests {
		t.Fatalf("settles: %v, rests: %v; %+v", settles, rests, before.Account)
	}
	blocks := allocated(t, path)
	db.settle(context.Background())
	after := db.Metrics()
	stock := db.ix.Reserved()
	if held := after.Account.IndexHeldBytes - int64(stock.Pages)*nvmap.PageBytes - int64(stock.Blocks)*alloc.BlockBytes; held != 0 || after.DiscardedBytes == 0 {
		t.Errorf("%d bytes of old index are held, %d bytes were given back", held, after.DiscardedBytes)
	}
	if now := allocated(t, path); now > blocks-after.DiscardedBytes/2 {
		t.Errorf("%d bytes of blocks, %d before, %d were given back", now, blocks, after.DiscardedBytes)
	}
	if settles, _ := looks(idleLooks); settles {
		t.Errorf("it would settle again: %+v", after.Account)
	}
	if err := firstErr(holds(db, m), clean(db)); err != nil {
		t.Error(err)
	}
}

// TestSettleBehindSnapshot: a store that comes to rest beside a snapshot settles when the snapshot has
// ended, without another commit.
func TestSettleBehindSnapshot(t *testing.T) {
	db := openTest(t, filepath.Join(testDir(t), "s"), &Options{EvacuateBytes: NoEvacuation, tidySlack: 4 << 10})
	m := fillRandom(t, db, 10_000, 100, 1)
	must(t, db.Checkpoint(context.Background()))
	tx, err := db.Begin(false)
	must(t, err)
	b := db.NewBatch()
	for k := range m {
		b.Put([]byte(k), []byte("changed"))
	}
	must(t, db.Write(b))
	must(t, db.withTurn(func() error {
		db.evac.waste.floor = math.MaxInt64 // no round begins
		db.evac.wake = make(chan struct{}, 1)
		db.noteWaste()
		if len(db.evac.wake) == 0 {
			t.Error("the commit does not wake the evacuator")
		}
		db.evac.wake = nil
		return nil
	}))
	ended := make(chan bool)
	go func() { ended <- db.awaitWaste(context.Background()) }()
	time.Sleep((idleLooks + 2) * tidyDelay)
	settled := func() bool { return db.asked(func() bool { return !db.evac.waste.settled.IsZero() }) }
	if settled() {
		t.Error("it settled beside a snapshot")
	}
	must(t, tx.Rollback())
	if <-ended; !settled() {
		t.Errorf("it has not settled: %+v", db.Metrics().Account)
	}
}

// TestAtRest: the index that a checkpoint at rest may write is bounded by the records written since
// the last one, except once a minute.
func TestAtRest(t *testing.T) {
	db := openTest(t, filepath.Join(testDir(t), "s"), &Options{EvacuateBytes: NoEvacuation})
	fillRandom(t, db, 20_000, 10, 1)
	if err := db.Checkpoint(context.Background()); err != nil {
		t.Fatal(err)
	}
	fillRandom(t, db, 500, 10, 2) // each changes another leaf
	db.turn.hold()
	defer db.turn.give()
	if db.held() <= 3*db.sinceCheckpoint {
		t.Fatalf("%d bytes held, %d written: the test tests nothing", db.held(), db.sinceCheckpoint)
	}
	w := &db.evac.waste
	for _, c := range []struct {
		idle    int
		settled time.Time
		want    bool
	}{
		{idleLooks, time.Time{}, false},
		{3 * idleLooks, time.Time{}, true},
		{3 * idleLooks, time.Now(), false},
	} {
		w.settled = c.settled
		if got := db.atRest(&looks{idle: c.idle}); got != c.want {
			t.Errorf("after %d looks, settled %v: %v", c.idle, c.settled, got)
		}
	}
}

// TestCheckpointEvery: the interval of checkpoints grows with the index, within its bounds, unless
// the options state it.
func TestCheckpointEvery(t *testing.T) {
	for _, stated := range []int64{0, 1 << 20} {
		db := openTest(t, filepath.Join(testDir(t), "s"), &Options{EvacuateBytes: NoEvacuation, CheckpointBytes: stated})
		index, least, most := int64(0), db.opt.CheckpointBytes, db.opt.checkpointMost
		every := func() int64 {
			db.turn.hold()
			defer db.turn.give()
			index = db.r.LiveIn(alloc.KindPage) + db.r.LiveIn(alloc.KindBlock)
			return db.checkpointEvery()
		}
		if n := every(); n != least || stated != 0 && (least != stated || most != stated) {
			t.Errorf("stated %d: %d, within %d and %d", stated, n, least, most)
		}
		if stated != 0 {
			continue
		}
		if most != defaultCheckpointMost || least != DefaultCheckpointBytes {
			t.Errorf("between %d and %d", least, most)
		}
		db.opt.CheckpointBytes, db.opt.checkpointMost = 64<<10, 1<<20
		for n := 1; index < 1<<19 && n < 1<<18; n *= 2 {
			fillRandom(t, db, n, 10, uint64(n))
			if got, want := every(), max(64<<10, min(2*index, 1<<20)); got != want {
				t.Errorf("index of %d bytes: every %d, want %d", index, got, want)
			}
		}
		if index < 1<<19 {
			t.Errorf("an index of %d bytes meets no bound", index)
		}
	}
}
