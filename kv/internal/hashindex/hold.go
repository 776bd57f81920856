package hashindex

import (
	"math/rand/v2"
	"runtime"
	"sync/atomic"
)

// Hold is a locked bucket. The zero Hold is none, and its methods do nothing.
type Hold struct {
	t *Table
	b *bucket
	w uint64 // the state after unlocking, but for the version

	full bool // a key did not fit
}

// Lock locks the bucket of a hash for a change of the index, which follows. It counts the change.
func (x *Index) Lock(h uint64) Hold {
	x.changes.Add(1)
	return x.LockCounted(h)
}

// LockCounted is Lock for a change that was counted already.
func (x *Index) LockCounted(h uint64) Hold {
	t := x.now.Load()
	if t == nil {
		return Hold{}
	}
	b := t.bucket(h)
	w, ok := t.lock(b)
	if !ok {
		return Hold{}
	}
	return t.held(b, w)
}

// held is a Hold of a bucket that was locked. It forgets entries of another tag.
func (t *Table) held(b *bucket, w uint64) Hold {
	tag := uint64(t.tag.Load())
	if w>>tagShift&tagMask != tag {
		for i := 1; i <= Entries; i++ {
			atomic.StoreUint64(&b[i], 0)
		}
		w = w&^(lost|tagMask<<tagShift) | tag<<tagShift
	}
	return Hold{t: t, b: b, w: w}
}

// Set makes the entry of a key follow the index: from the reference old to ref. 0 is none.
func (l *Hold) Set(h, old, ref uint64) {
	if l.t == nil {
		return
	}
	print := printOf(h)
	free := 0
	for i := 1; i <= Entries; i++ {
		switch e := l.b[i]; {
		case e == 0:
			free = i
		case old != 0 && e == print|old:
			if ref != 0 {
				ref |= print
			}
			atomic.StoreUint64(&l.b[i], ref)
			return
		}
	}
	if ref != 0 {
		l.put(free, print|ref, old == 0)
	}
}

// put stores an entry into a free place, if there is one. crowds says that it was not lost before.
func (l *Hold) put(free int, e uint64, crowds bool) {
	if free != 0 {
		atomic.StoreUint64(&l.b[free], e)
		return
	}
	l.w |= lost
	if crowds {
		l.t.crowded.Add(1)
		l.full = true
	}
}

// Crowded says whether a new key did not fit and a larger table would be better, see Table.Crowded.
func (l *Hold) Crowded() bool { return l.full && l.t.Crowded() }

// Unlock ends the hold.
func (l *Hold) Unlock() {
	if l.t != nil {
		atomic.StoreUint64(&l.b[0], l.w+version)
		runtime.KeepAlive(l.t)
	}
}

// TryLock locks the bucket of a hash in order to add a key that was found in the index. It fails if
// the bucket is locked, or the table shut.
func (x *Index) TryLock(h uint64) (Hold, bool) {
	t := x.now.Load()
	if t == nil {
		return Hold{}, false
	}
	b := t.bucket(h)
	w := atomic.LoadUint64(&b[0])
	if w&locked != 0 || !atomic.CompareAndSwapUint64(&b[0], w, w|locked) {
		return Hold{}, false
	}
	l := t.held(b, w)
	if t.state.Load()&1 != 0 {
		l.Unlock()
		return Hold{}, false
	}
	return l, true
}

// Add adds a key that the index has. It says whether the key is there afterwards.
func (l *Hold) Add(h, ref uint64) {
	e := printOf(h) | ref
	free := 0
	for i := 1; i <= Entries; i++ {
		switch l.b[i] {
		case 0:
			free = i
		case e:
			return
		}
	}
	l.put(free, e, true)
}

// Replace is Add that takes the place of another key if the bucket is full.
func (l *Hold) Replace(h, ref uint64) {
	e := printOf(h) | ref
	at := 0
	for i := 1; i <= Entries; i++ {
		switch l.b[i] {
		case 0:
			at = i
		case e:
			return
		}
	}
	if at == 0 {
		at = 1 + int(rand.Uint32N(Entries))
		l.w |= lost
	}
	atomic.StoreUint64(&l.b[at], e)
}

// replaceOneIn is how seldom a reader puts a key into a full bucket, so that keys that are read often
// stay.
const replaceOneIn = 8

// Wants says whether a reader should add a key: the bucket has a free place, or it is the key's turn
// to replace another.
func (x *Index) Wants(h uint64) bool {
	t := x.now.Load()
	if t == nil {
		return false
	}
	b := t.bucket(h)
	if uint32(atomic.LoadUint64(&b[0])>>tagShift&tagMask) != t.tag.Load() {
		return true
	}
	for i := 1; i <= Entries; i++ {
		if atomic.LoadUint64(&b[i]) == 0 {
			return true
		}
	}
	return rand.Uint32N(replaceOneIn) == 0
}
