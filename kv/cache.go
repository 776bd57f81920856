package kv

import (
	"encoding/binary"
	"fmt"
	"time"

	"nvkv/alloc"
	"nvkv/kv/internal/btree"
	"nvkv/kv/internal/record"
	"nvkv/nvmap"
)

// Index pages that change have frames in DRAM. On devices that are not mapped, pages that are read
// have frames too. Options.CacheBytes bounds them:
//
//   - A checkpoint makes the pages that it wrote clean. The cache policy chooses which clean frames
//     are evicted.
//   - A read makes a frame only while there is room. Otherwise it makes a copy, which the garbage
//     collector frees.
//   - The goroutine with the turn makes room before it begins to change pages, at a moment when it
//     uses none.
//   - If a large part of the frames is dirty, a checkpoint is taken early. Where none can come in
//     time, inside a large transaction or a recovery, dirty pages are written before it (I14). Each
//     has had a place of its own since its birth, which no checkpoint names yet.
//
// I13. The memory of a frame is freed only after all sections have ended that began before readers
// were turned away from the frame.
//
// I14. A page or block that is written before its checkpoint goes to the place where it was born,
// whole and sealed, and is fenced before it counts as clean. The checkpoint that counts does not
// use that place (I4).
//
// I15. A page is clean only if the device has every byte of it that the index or a holder names.
// The bytes of a freed block count as clean: nothing names them.

// DefaultCacheBytes is the value of Options.CacheBytes if that is 0.
const DefaultCacheBytes = 1 << 30

// MinCacheBytes is the smallest value of Options.CacheBytes.
const MinCacheBytes = 4 << 20

// mapOptions returns the options of the store's map.
func (db *DB) mapOptions() (*nvmap.MapOptions, error) {
	policy, err := nvmap.NewPolicy(db.opt.CachePolicy)
	if err != nil {
		return nil, fmt.Errorf("nvkv: option CachePolicy: %w", err)
	}
	return &nvmap.MapOptions{CacheBytes: db.opt.CacheBytes, Policy: policy, Pressed: db.evictor.call}, nil
}

// evictor evicts frames in the background, so that few callers have to do it.
type evictor struct {
	wake, stop, exited chan struct{}
	running            bool
}

func newEvictor() evictor {
	return evictor{wake: make(chan struct{}, 1), stop: make(chan struct{}), exited: make(chan struct{})}
}

// call wakes the evictor. It does not block.
func (e *evictor) call() {
	select {
	case e.wake <- struct{}{}:
	default:
	}
}

func (db *DB) startEvictor() {
	db.evictor.running = true
	go func() {
		defer close(db.evictor.exited)
		for {
			select {
			case <-db.evictor.stop:
				return
			case <-db.evictor.wake:
			}
			if !db.evictSome() {
				// All remaining frames are dirty: wait until a checkpoint has made some clean.
				time.Sleep(evictorRest)
			}
		}
	}()
}

const evictorRest = 5 * time.Millisecond

func (db *DB) stopEvictor() {
	if db.evictor.running {
		db.evictor.running = false
		close(db.evictor.stop)
		<-db.evictor.exited
	}
}

// evictSome evicts clean frames until a quarter of all frames is free. It says whether it evicted
// any or had to evict none.
func (db *DB) evictSome() bool {
	want := db.m.CacheFrames()/4 - db.m.Room()
	if want <= 0 {
		return true
	}
	freed, _ := db.m.Evict(want, nvmap.Eviction{Quiesce: db.quiesce})
	if freed == 0 && !db.opt.ReadOnly && db.m.Dirty() > db.m.CacheFrames()/4 {
		db.wakeCheckpointer()
	}
	return freed > 0
}

// readRoom makes room for the pages that a reader reads in one batch, on a device that is not
// mapped. Without it, if memory is so short that the evictor does not keep up, pages would be read
// one at a time. The caller is in no section.
func (db *DB) readRoom() {
	if db.ix.Mapped() {
		return
	}
	s, err := db.callIn()
	if err != nil {
		return
	}
	defer s.leave()
	limit := db.m.CacheFrames()
	atOnce := min(2*btree.AheadMost+2*btree.ChildrenMost, limit/8)
	if db.m.Room() < limit/8+atOnce {
		_, _ = db.m.Evict(limit/4+atOnce-db.m.Room(), nvmap.Eviction{Quiesce: db.quiesce})
	}
}

// roomFor makes sure that n frames can be made. The caller has the turn or is the recovery, and has
// no pointer to a page.
func (db *DB) roomFor(n int) error {
	if db.m.Room() >= n && !db.opt.early {
		return nil
	}
	if s := db.inside; s != nil {
		s.LeaveInside()
		defer func() { db.inside = db.pages.BeginInside() }()
	}
	return db.makeFrames(n)
}

// quiesce returns when no reader has a pointer to a page from which readers were turned away before
// the call.
func (db *DB) quiesce() {
	if !db.off(ruleI13) {
		db.pages.Wait()
	}
}

func (db *DB) makeFrames(n int) error {
	limit := db.m.CacheFrames()
	n = min(n, limit)
	if db.opt.early {
		_, err := db.m.Evict(limit, nvmap.Eviction{Quiesce: db.quiesce, WriteBack: db.writeEarly})
		return err
	}
	e := nvmap.Eviction{Quiesce: db.quiesce}
	if db.m.Dirty() < limit/4*3 {
		if _, err := db.m.Evict(n-db.m.Room(), e); err != nil {
			return err
		}
	}
	if db.opt.ReadOnly {
		return nil // a recovery that must not write: the pages that it changed stay in DRAM
	}
	e.WriteBack = db.writeEarly
	for tries := 0; db.m.Room() < n; tries++ {
		if tries == roomTries {
			return fmt.Errorf("nvkv: %d of %d frames of CacheBytes are in use at once", limit-db.m.Room(), limit)
		}
		if _, err := db.m.Evict(n-db.m.Room(), e); err != nil {
			return err
		}
	}
	return nil
}

const roomTries = 100

// writeEarly writes dirty pages of the index before a checkpoint does (I14). No other goroutine
// changes pages meanwhile.
func (db *DB) writeEarly(ids []nvmap.PageID) error {
	db.backing.Lock()
	defer db.backing.Unlock()
	parts := make([]uint, len(ids))
	for i, id := range ids {
		parts[i] = db.m.DirtyParts(id)
		if err := db.writeParts(id, parts[i]); err != nil {
			return err
		}
	}
	if err := db.m.Fence(); err != nil {
		return err
	}
	for i, id := range ids {
		db.cleanParts(id, parts[i])
	}
	return nil
}

// writeParts seals and writes the dirty quarters of a page: all of an index page, or single value
// blocks.
func (db *DB) writeParts(id nvmap.PageID, parts uint) error {
	if _, _, ok := db.r.Carve(id.Off(), alloc.KindPage); ok {
		if parts == 0 {
			return nil
		}
		pg := db.m.Page(id)
		db.seal(pg[:], btree.PageSum, record.PlaceSum(pg[:], db.seed, id.Off()))
		db.early++
		return db.m.WriteBack(id, 0, nvmap.PageBytes)
	}
	if _, _, ok := db.r.Carve(id.Off(), alloc.KindBlock); !ok {
		return nil // freed, and its slab has another kind now: nothing names it
	}
	for i := range btree.BlocksPerPage {
		if parts>>i&1 == 0 {
			continue
		}
		at := i * alloc.BlockBytes
		b := db.m.Page(id)[at : at+alloc.BlockBytes]
		db.seal(b, btree.ValsSum, record.PlaceSum(b, db.seed, id.Off()+nvmap.Off(at)))
		db.early++
		if err := db.m.WriteBack(id, at, at+alloc.BlockBytes); err != nil {
			return err
		}
	}
	return nil
}

// seal writes a checksum.
func (db *DB) seal(b []byte, at int, sum uint32) {
	if db.off(ruleI14) {
		return
	}
	binary.LittleEndian.PutUint32(b[at:], sum)
}

func (db *DB) cleanParts(id nvmap.PageID, parts uint) {
	if db.off(ruleI15) {
		parts = 1<<btree.BlocksPerPage - 1
	}
	for i := range btree.BlocksPerPage {
		if parts>>i&1 != 0 {
			db.m.CleanPart(id, i*alloc.BlockBytes, (i+1)*alloc.BlockBytes)
		}
	}
}

// freePage frees a page or value block that no holder sees any more (I15).
func (db *DB) freePage(o nvmap.Off) {
	n := nvmap.Off(nvmap.PageBytes)
	if _, _, ok := db.r.Carve(o, alloc.KindBlock); ok {
		n = alloc.BlockBytes
	}
	at := int(o % nvmap.PageBytes)
	db.m.CleanPart(o.Page(), at, at+int(n))
	db.account(db.r.Free(o))
}

// pressed wakes the evictor or the checkpointer after a commit if frames run short. Pages that the
// last checkpoint could not make clean, because snapshots hold them, do not count: the next
// checkpoint could not either.
func (db *DB) pressed() {
	limit, dirty := db.m.CacheFrames(), db.m.Dirty()
	if db.m.Room() < limit/8 {
		db.evictor.call()
	}
	if dirty <= limit/2 {
		return
	}
	more := dirty - int(db.dirtyLeft.Load())
	if more > limit/8 {
		db.wakeCheckpointer()
	}
	if dirty > limit/4*3 && more > limit/4 {
		db.behind.Store(true)
	}
}
