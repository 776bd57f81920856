package kv

import (
	"cmp"
	"context"
	"errors"
	"runtime"
	"sync/atomic"
	"time"

	"nvkv/alloc"
	"nvkv/kv/internal/btree"
	"nvkv/kv/internal/locks"
	"nvkv/kv/internal/record"
	"nvkv/nvmap"
)

// checkpoints is the state of checkpointing.
type checkpoints struct {
	mu      locks.Mutex[locks.AtCheckpoint] // held during a checkpoint; guards base and current
	base    state                           // the payload of the newest superblock
	current *holder                         // pins the pages of the last checkpoint

	wake    chan struct{}
	reclaim chan struct{} // see wakeReclaimer
	stop    chan struct{}
	exited  chan struct{}

	// freezing is the checkpoint under way, or nil, for Check.
	freezing atomic.Pointer[frozen]

	stats struct { // under DB.publish
		taken      int64
		last       time.Duration
		total      time.Duration
		generation uint64
	}
}

// list returns the references that wait for the flip. f may be nil.
func (f *frozen) list() []btree.Ref {
	if f == nil {
		return nil
	}
	return f.held
}

// Checkpoint writes the changes of the index since the last checkpoint, beside readers and writers.
// Afterwards a recovery has less to read, and the space of deleted records is free. It may be
// called at any time. If ctx ends before the flip, the last checkpoint still counts and the error
// is that of ctx.
func (db *DB) Checkpoint(ctx context.Context) (err error) {
	s, err := db.enterCall()
	if err != nil {
		return err
	}
	defer s.leave()
	if err := db.writable(); err != nil {
		return err
	}
	return db.makeRoom(orBackground(ctx))
}

// frozen is a checkpoint under way: the state that it describes.
type frozen struct {
	holder *holder
	state  state
	maps   []alloc.MapImage
	held   []btree.Ref // tombstones and run lists that are not needed after this checkpoint
	bytes  int64

	written []writtenParts
}

// checkpoint takes a checkpoint. The caller must not have the turn. It may have a writable Tx open:
// a checkpoint does not wait for that.
func (db *DB) checkpoint(ctx context.Context) error {
	began := time.Now()
	keys, err := db.takeCheckpoint(ctx, began)
	if err == nil {
		db.opt.Logger.Debug("checkpoint", "took", time.Since(began), "keys", keys)
		db.writeEvents(false)
	}
	return err
}

func (db *DB) takeCheckpoint(ctx context.Context, began time.Time) (keys int64, err error) {
	c := &db.checkpoints
	c.mu.Lock()
	defer c.mu.Unlock()
	ended := false
	defer func() {
		if !ended { // a panic or a fault: the state is unknown
			err = db.fail(cmp.Or(err, errInterrupted))
		}
	}()
	defer db.guarded("checkpoint", panicOnFault(true), &err)
	keys, err = db.checkpointAlone(ctx, began)
	ended = true
	return keys, err
}

func (db *DB) checkpointAlone(ctx context.Context, began time.Time) (keys int64, err error) {
	db.reclaimRest()
	f, err := db.freeze()
	if err != nil {
		return 0, err
	}
	if err := db.persistFrozen(ctx, f); err != nil {
		return 0, db.thaw(f, err)
	}
	if err := db.r.WriteSuper(f.state.encode()); err != nil {
		return 0, db.fail(err)
	}
	db.checkpoints.base = f.state
	db.flipped(f, time.Since(began))
	db.reclaimRest()
	return f.state.keys, nil
}

// persistFrozen makes the frozen state durable. A fault of the medium is an ordinary error; after a
// panic the store has failed.
func (db *DB) persistFrozen(ctx context.Context, f *frozen) (err error) {
	ended := false
	defer func() {
		if !ended && err == nil {
			_ = db.thaw(f, errInterrupted)
		}
	}()
	defer db.guarded("checkpoint", panicOnFault(true), &err)
	if err = db.writeFrozen(ctx, f); err == nil {
		err = db.stillWhole()
	}
	ended = true
	return err
}

// stillWhole returns the error of a commit whose fence failed beside this checkpoint, or nil. It
// takes the turn, so no commit is under way. The failed fence may have covered writes of the
// checkpoint, and a device reports such a failure only once (R15).
func (db *DB) stillWhole() error {
	defer db.standstill()()
	if f := db.failure.Load(); f != nil {
		return *f
	}
	return nil
}

// freeze makes the cut that a checkpoint describes (R8): root, number, maps and lists at one
// instant between two transactions. It closes an open group, because no record of the group may be
// newer than the number of the freeze.
func (db *DB) freeze() (*frozen, error) {
	defer db.standstill()()
	if err := db.closeGroup(); err != nil {
		return nil, err
	}
	if err := db.renewRun(); err != nil {
		return nil, err
	}
	db.lockReaders()
	defer db.unlockReaders()
	for db.dismantleSome() { // maps mark the slots that the root reaches (R10)
	}
	db.publish.Lock()
	defer db.publish.Unlock()
	h := db.openHolder(false)
	st, tree := db.checkpoints.base, db.ix.State()
	f := &frozen{holder: h, maps: db.r.FreezeMaps(), held: db.tombs, bytes: db.sinceCheckpoint}
	f.state = state{
		run: db.run, interval: st.interval + 1, last: db.visible,
		root: tree.Root, rootBirth: tree.RootBirth, height: uint8(tree.Height), hasLong: tree.HasLong,
		epoch: h.epoch, keys: db.keys, leaves: int64(tree.Leaves),
		maps: db.r.Generation() + 1, clean: db.ending,
	}
	db.checkpoints.freezing.Store(f)
	db.tombs = nil
	db.sinceCheckpoint = 0
	db.behind.Store(false)
	select {
	case <-db.checkpoints.wake: // this checkpoint covers what was requested
	default:
	}
	if !db.off(ruleR5) {
		db.r.SetInterval(f.state.interval)
	}
	db.frozenLast = f.state.last
	return f, nil
}

// thaw undoes a freeze after an error: the last checkpoint still counts. Marks of the new interval
// do no harm, because they are above the old one.
func (db *DB) thaw(f *frozen, cause error) error {
	defer db.standstill()()
	db.publish.Lock()
	defer db.publish.Unlock()
	db.holders.drop(f.holder)
	db.tombs = append(db.tombs, f.held...)
	db.checkpoints.freezing.Store(nil)
	db.sinceCheckpoint += f.bytes
	db.r.ThawMaps(f.maps)
	if errors.Is(cause, context.Canceled) || errors.Is(cause, context.DeadlineExceeded) {
		return cause
	}
	return db.fail(cause)
}

// yieldEvery is how many pages a checkpoint writes before it yields its CPU: 50 us. The scheduler
// would let others wait for 10 ms.
const yieldEvery = 32

// yield yields the CPU after every yieldEvery pages. The caller holds no lock.
func (f *frozen) yield() {
	if len(f.written)%yieldEvery == yieldEvery-1 {
		runtime.Gosched()
	}
}

// writeFrozen writes the pages born since the last checkpoint, each to the place that it has had
// since its birth, then the maps, and fences. It overwrites nothing of the last checkpoint (I4).
func (db *DB) writeFrozen(ctx context.Context, f *frozen) error {
	since := uint64(0)
	if db.checkpoints.current != nil {
		since = db.checkpoints.current.epoch + 1
	}
	err := db.ix.Walk(f.holder.root, &btree.Visitor{
		Page: func(id nvmap.PageID, pg *btree.Page) (bool, error) {
			if btree.Birth(pg) < since {
				return false, nil // no page below is younger
			}
			if err := ctx.Err(); err != nil {
				return false, err
			}
			defer f.yield()
			return true, db.writeFrozenPart(f, id, pg[:], 0, btree.PageSum)
		},
		Vals: func(n uint64, b *btree.Vals) error {
			if btree.ValsBirth(b) < since {
				return nil
			}
			o := btree.Child{Vals: n}.ValsOff()
			defer f.yield()
			return db.writeFrozenPart(f, o.Page(), b[:], int(o%nvmap.PageBytes), btree.ValsSum)
		},
	})
	if err != nil {
		return err
	}
	if err := db.r.WriteMaps(f.maps, f.state.maps); err != nil {
		return err
	}
	f.state.digest = db.r.MapDigest(f.maps)
	if err := db.m.Fence(); err != nil {
		return err
	}
	for _, w := range f.written {
		db.cleanParts(w.page, w.parts)
	}
	return nil
}

// writtenParts are quarters of a page that a checkpoint wrote. Frozen pages do not change, so these
// are clean after the fence.
type writtenParts struct {
	page  nvmap.PageID
	parts uint
}

// writeFrozenPart seals and writes b, which is a page or the block at offset at of it, unless it
// was written early (I14).
func (db *DB) writeFrozenPart(f *frozen, id nvmap.PageID, b []byte, at, sumAt int) error {
	sum := record.PlaceSum(b, db.seed, id.Off()+nvmap.Off(at))
	parts := uint(1<<btree.BlocksPerPage - 1)
	if len(b) == alloc.BlockBytes {
		parts = 1 << (at / alloc.BlockBytes)
	}
	db.lockSeal()
	db.backing.Lock()
	defer db.backing.Unlock()
	dirty := db.m.DirtyParts(id)&parts != 0
	if dirty {
		db.seal(b, sumAt, sum)
	}
	db.unlockSeal()
	if !dirty {
		return nil
	}
	f.written = append(f.written, writtenParts{id, parts})
	return db.m.WriteBack(id, at, at+len(b))
}

// flipped releases what only the previous checkpoint pinned: the pages that were superseded, and
// the tombstones that were on the list at the freeze (R6, R8, R9).
func (db *DB) flipped(f *frozen, took time.Duration) {
	defer db.standstill()()
	db.lockReaders()
	defer db.unlockReaders()
	db.publish.Lock()
	defer db.publish.Unlock()
	if old := db.checkpoints.current; old != nil {
		db.holders.drop(old)
	}
	db.checkpoints.current = f.holder
	db.r.CountMaps(f.maps)
	db.flippedInterval.Store(f.state.interval)
	if db.off(ruleR8) {
		f.held, db.tombs = append(f.held, db.tombs...), nil
	}
	db.holders.held = append(db.holders.held, f.held...)
	db.releaseBelow(f.state.last + 1) // a recovery counts none of these records
	db.newInterval()
	db.checkpoints.freezing.Store(nil)
	db.reclaim(reclaimMost)
	db.dirtyLeft.Store(int64(db.m.Dirty()))
	st := &db.checkpoints.stats
	st.taken++
	st.last = took
	st.total += took
	st.generation = db.r.Generation()
}

// checkpointIfWritten takes a checkpoint, unless a recovery would have nothing to do.
func (db *DB) checkpointIfWritten() error {
	if db.sinceCheckpoint == 0 && len(db.checkpoints.base.ended) == 0 {
		return nil
	}
	return db.checkpoint(context.Background())
}

func (db *DB) startCheckpointer() {
	c := &db.checkpoints
	c.wake, c.reclaim = make(chan struct{}, 1), make(chan struct{}, 1)
	c.stop, c.exited = make(chan struct{}), make(chan struct{})
	var due <-chan time.Time
	if !db.opt.noGroupTimer {
		db.group.timer = time.NewTimer(groupDelay)
		due = db.group.timer.C
		db.group.timer.Stop() // until a group is open
	}
	sweep := time.NewTicker(db.opt.sweepEvery)
	db.events.size.Store(db.m.Size())
	go func() {
		defer close(c.exited)
		defer sweep.Stop()
		for {
			select {
			case <-c.stop:
				db.writeEvents(true)
				return
			case <-db.events.note:
				db.writeEvents(false)
				continue
			case <-sweep.C:
				db.writeEvents(true)
				db.sweepIdle()
				continue
			case <-due:
				if err := db.syncGroup(); err != nil {
					db.opt.Logger.Error("closing a group", "error", err)
				}
				continue
			case <-c.reclaim:
				db.reclaimRest()
				continue
			case <-c.wake:
			}
			if db.failure.Load() != nil {
				continue
			}
			if err := db.collectExpired(context.Background(), sweepPerFlip); err != nil {
				db.opt.Logger.Warn("collecting what has expired", "error", err)
			}
			if err := db.checkpoint(context.Background()); err != nil {
				db.opt.Logger.Error("checkpoint", "error", err)
			}
		}
	}()
}

// stopCheckpointer stops the background goroutines.
func (db *DB) stopCheckpointer() {
	db.stopHash()
	db.stopEvacuator()
	db.stopEvictor()
	if db.checkpoints.stop == nil {
		return
	}
	close(db.checkpoints.stop)
	<-db.checkpoints.exited
	db.checkpoints.stop = nil
}

func (db *DB) wakeCheckpointer() {
	select {
	case db.checkpoints.wake <- struct{}{}:
	default:
	}
}
