package hashindex

import (
	"sync/atomic"

	"nvkv/nvmap"
)

// Look is a look at the bucket of a key.
type Look struct {
	t     *Table
	b     *bucket
	state uint64 // of the table
	word  uint64 // state of the bucket
	print uint64
	next  int  // entries that Next has passed
	whole bool // every key of the bucket has an entry
}

// Look notes the states of table and bucket of a hash. It returns false if the reader has to use the
// index: there is no table, or it is shut, or the bucket is being changed or
// tells nothing.
func (x *Index) Look(h uint64, l *Look) bool {
	t := x.now.Load()
	if t == nil {
		return false
	}
	state, tag := t.state.Load(), t.tag.Load()
	covered := t.covered.Load() == tag // before the word: the walk may lose an entry until it ends
	b := t.bucket(h)
	word := atomic.LoadUint64(&b[0])
	if state&1 != 0 || word&locked != 0 {
		return false
	}
	*l = Look{t: t, b: b, state: state, word: word, print: printOf(h), whole: covered}
	if uint32(word>>tagShift&tagMask) != tag {
		l.next = Entries // they were forgotten
		return l.whole
	}
	l.whole = l.whole && word&lost == 0
	return true
}

// Next returns the next reference that may be the key's, and 0 after the last.
func (l *Look) Next() (ref uint64) {
	for l.next < Entries {
		l.next++
		e := atomic.LoadUint64(&l.b[l.next])
		if e>>printShift<<printShift == l.print && e != 0 {
			return e & refMask
		}
	}
	return 0
}

// Complete says whether the bucket had every key that the index has.
func (l *Look) Complete() bool { return l.whole }

// Stands says whether nothing has changed since the look. Then every entry that Next returned was
// what the index had for its key, from the look until now.
func (l *Look) Stands() bool {
	nvmap.LoadBarrier()
	return atomic.LoadUint64(&l.b[0]) == l.word && l.t.state.Load() == l.state // which also keeps the memory
}

// LookAt is Look at bucket i of the table, for a walk over all entries. After it Each is called, not
// Next.
func (x *Index) LookAt(i int, l *Look) bool {
	t := x.now.Load()
	if t == nil || i >= len(t.buckets) {
		return false
	}
	state, b := t.state.Load(), &t.buckets[i]
	word := atomic.LoadUint64(&b[0])
	*l = Look{t: t, b: b, state: state, word: word}
	return state&1 == 0 && word&locked == 0 && uint32(word>>tagShift&tagMask) == t.tag.Load()
}

// Each calls fn with each reference of the bucket. is says whether the entry is one of a key with a
// hash.
func (l *Look) Each(fn func(ref uint64, is func(hash uint64) bool)) {
	for i := 1; i <= Entries; i++ {
		if e := atomic.LoadUint64(&l.b[i]); e != 0 {
			fn(e&refMask, func(h uint64) bool { return l.t.bucket(h) == l.b && printOf(h) == e&^refMask })
		}
	}
}
