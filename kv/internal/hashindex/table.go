package hashindex

import (
	"hash/maphash"
	"math/bits"
	"runtime"
	"sync/atomic"
)

const (
	// BucketBytes is the size of a bucket, Entries how many keys it holds.
	BucketBytes = 64
	Entries     = 7

	locked   = 1 << 0
	lost     = 1 << 1
	tagShift = 2
	tagMask  = 1<<16 - 1
	version  = 1 << 18

	printShift = 48
	refMask    = 1<<printShift - 1
)

type bucket [BucketBytes / 8]uint64

// Table is a table of a fixed number of buckets.
type Table struct {
	buckets []bucket
	seed    maphash.Seed

	state   atomic.Uint64 // odd: shut. Grows with every opening and shutting
	tag     atomic.Uint32 // of the buckets that count, 1 to tagMask
	covered atomic.Uint32 // the tag that a walk has covered; 0: none
	crowded atomic.Int64  // entries that did not fit since the last call of Crowded
	dead    atomic.Bool   // retired: nobody waits for its buckets any more
	release func()
	cleanup runtime.Cleanup // releases a table that nobody releases
}

// Index is a table that may be replaced by another one, or be missing.
type Index struct {
	now  atomic.Pointer[Table]
	seed maphash.Seed
	_    [40]byte

	// changes grows before any change of the index becomes visible.
	changes atomic.Uint64
	_       [56]byte
}

// Init prepares an Index, without a table.
func (x *Index) Init() { x.seed = maphash.MakeSeed() }

// Hash returns the hash of a key. It is random, but does not change while the Index exists.
func (x *Index) Hash(key []byte) uint64 { return maphash.Bytes(x.seed, key) }

// On says whether there is a table.
func (x *Index) On() bool { return x.now.Load() != nil }

// Changes returns how often a change of the index has begun. If it is the same before and after a
// read, the index has not changed in between.
func (x *Index) Changes() uint64 { return x.changes.Load() }

// Changing counts a change that touches no bucket by Lock. It comes before the change.
func (x *Index) Changing() { x.changes.Add(1) }

// New returns a table of n buckets, at least 1.
func (x *Index) New(n int) (*Table, error) {
	t := &Table{seed: x.seed}
	var err error
	if t.buckets, t.release, err = allocate(max(n, 1)); err != nil {
		return nil, err
	}
	t.cleanup = runtime.AddCleanup(t, func(release func()) { release() }, t.release)
	t.tag.Store(1)
	return t, nil
}

// Install makes t the table, or leaves none if t is nil. It returns the one before, retired: readers
// under way cannot use what they find there. No change of the index may be under way.
func (x *Index) Install(t *Table) (before *Table) {
	before = x.now.Load()
	before.retire()
	x.now.Store(t)
	return before
}

// Drop leaves no table, at any time. The memory of the table is released by the caller of Release.
func (x *Index) Drop() (before *Table) {
	before = x.now.Swap(nil)
	before.retire()
	return before
}

func (t *Table) retire() {
	if t == nil {
		return
	}
	t.dead.Store(true)
	for s := t.state.Load(); s&1 == 0 && !t.state.CompareAndSwap(s, s+1); s = t.state.Load() {
	}
}

// Release gives the memory of a table back. No reader may be under way that began before it was
// retired.
func (t *Table) Release() {
	if t != nil {
		t.cleanup.Stop()
		t.release()
	}
}

// Buckets returns the number of buckets.
func (t *Table) Buckets() int { return len(t.buckets) }

// Table returns the table, or nil.
func (x *Index) Table() *Table { return x.now.Load() }

// Bytes returns how many bytes of DRAM the table takes.
func (x *Index) Bytes() int64 {
	if t := x.now.Load(); t != nil {
		return int64(len(t.buckets)) * BucketBytes
	}
	return 0
}

// bucket returns the bucket of a hash. The print comes from the low bits of the hash, which decide
// nothing here.
func (t *Table) bucket(h uint64) *bucket {
	i, _ := bits.Mul64(h, uint64(len(t.buckets)))
	return &t.buckets[i]
}

// print returns the bits of a hash that an entry has, in their place.
func printOf(h uint64) uint64 { return h << printShift }

// Shut makes readers use the index until Open. No goroutine may hold a bucket by Lock. It counts as
// a change.
func (x *Index) Shut() *Table {
	x.changes.Add(1)
	t := x.now.Load()
	if t != nil {
		t.state.Add(1)
	}
	return t
}

// Open lets readers use the table again.
func (t *Table) Open() {
	if t != nil && !t.dead.Load() {
		t.state.Add(1)
	}
}

// Clear forgets all entries of a table that is shut.
func (t *Table) Clear() {
	if t == nil {
		return
	}
	tag := t.tag.Load() + 1
	if tag > tagMask { // buckets may have any tag: give all of them the one that never counts
		for i := range t.buckets {
			b := &t.buckets[i]
			w, ok := t.lock(b)
			if !ok {
				return
			}
			atomic.StoreUint64(&b[0], w&^(tagMask<<tagShift|locked)+version)
		}
		tag = 1
	}
	t.covered.Store(0)
	t.tag.Store(tag)
}

// lock locks a bucket, and waits for another goroutine that has it. It returns the state before, or
// false if the table was retired: then its bucket may stay locked.
func (t *Table) lock(b *bucket) (w uint64, ok bool) {
	for spins := 0; ; spins++ {
		w = atomic.LoadUint64(&b[0])
		if w&locked == 0 && atomic.CompareAndSwapUint64(&b[0], w, w|locked) {
			return w, true
		}
		if t.dead.Load() {
			return 0, false
		}
		if spins >= lockSpins { // its owner may wait for this CPU
			runtime.Gosched()
		}
	}
}

const lockSpins = 100

// Tag returns what Covered wants of the walk that begins now.
func (t *Table) Tag() uint32 { return t.tag.Load() }

// Covered says that a walk over the whole index has added every key that was there since the table
// had this tag, or has seen it lost.
func (t *Table) Covered(tag uint32) { t.covered.Store(tag) }

// IsCovered says whether a walk has covered the table since it was cleared.
func (t *Table) IsCovered() bool { return t.covered.Load() == t.tag.Load() }

// Crowded says whether so many entries did not fit since it last said so that a larger table would
// be better.
func (t *Table) Crowded() bool { return t.crowded.Load() > int64(len(t.buckets)/16) }

// Uncrowd makes Crowded count from 0.
func (t *Table) Uncrowd() { t.crowded.Store(0) }
