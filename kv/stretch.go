package kv

import (
	"bytes"
	"slices"
	"sort"
)

// Which keys may have expired is known by stretches of the index: a few leaves
// each, with the earliest expiry of what is in them. They divide the keys, not the
// pages, so that nothing has to follow pages that are copied, split or merged, and
// they are kept in DRAM, so that a put with an expiry writes nothing more. An
// opening begins with one stretch, of which nothing is known.

// stretch is the keys from one up to where the next stretch begins.
type stretch struct {
	from   []byte
	due    int64 // nothing in it expires earlier; 0: nothing does
	leaves int   // that it had when it was visited last
}

const (
	stretchLeaves = 8  // at most, when it is visited
	stretchBytes  = 40 // of DRAM, beside its key
	unseen        = 1  // due of what was never visited
)

// sweep is how far the collecting of expired keys has come. Under the turn.
type sweep struct {
	stretches []stretch // in order of keys, the first from the lowest there is
	next      int64     // no stretch is due earlier; 0: none is at all
	collected uint64    // keys
	visited   uint64    // leaves

	// The visit under way.
	visiting bool
	at       int    // of stretches
	from     []byte // where it goes on
	was      int64  // due when it began, while stretches[at].due is of what was put since
	left     int64  // earliest expiry of what it passed and left
	leaves   int    // that it passed
}

// bytes returns what the stretches take in DRAM, about.
func (sw *sweep) bytes() (n int64) {
	for i := range sw.stretches {
		n += stretchBytes + int64(len(sw.stretches[i].from))
	}
	return n
}

// begin makes the stretch that covers everything.
func (sw *sweep) begin() {
	if sw.stretches == nil {
		sw.stretches, sw.next = []stretch{{due: unseen}}, unseen
	}
}

// expires notes that key was given an expiry; 0 is none.
func (sw *sweep) expires(key []byte, expiry int64) {
	if expiry == 0 {
		return
	}
	sw.begin()
	i := sort.Search(len(sw.stretches), func(i int) bool { return bytes.Compare(sw.stretches[i].from, key) > 0 }) - 1
	s := &sw.stretches[i]
	s.due = earlier(s.due, expiry)
	sw.next = earlier(sw.next, expiry)
}

// pick begins a visit of a stretch where something may have expired, unless one
// is under way; false where there is none.
func (sw *sweep) pick(now int64) bool {
	sw.begin()
	if sw.visiting {
		return true
	}
	if sw.next == 0 || sw.next > now {
		return false
	}
	sw.next = 0
	for n := range sw.stretches {
		i := (sw.at + n) % len(sw.stretches)
		s := &sw.stretches[i]
		if s.due != 0 && s.due <= now {
			sw.next = s.due
			sw.visiting, sw.at, sw.from = true, i, s.from
			sw.was, sw.left, sw.leaves, s.due = s.due, 0, 0, 0
			return true
		}
		sw.next = earlier(sw.next, s.due)
	}
	return false
}

// beyond says whether key lies behind the stretch under way.
func (sw *sweep) beyond(key []byte) bool {
	next := sw.at + 1
	return next < len(sw.stretches) && bytes.Compare(key, sw.stretches[next].from) >= 0
}

// end ends the visit. Small neighbours become one stretch.
func (sw *sweep) end() {
	s := &sw.stretches[sw.at]
	s.due, s.leaves = earlier(s.due, sw.left), max(sw.leaves, 1)
	sw.visiting = false
	if sw.at == 0 {
		return
	}
	p := &sw.stretches[sw.at-1]
	if p.leaves > 0 && p.leaves+s.leaves <= stretchLeaves/2 {
		p.due, p.leaves = earlier(p.due, s.due), p.leaves+s.leaves
		sw.stretches = slices.Delete(sw.stretches, sw.at, sw.at+1)
		sw.at--
	}
}

// split ends the visit at a key, where the rest, which was not looked at, becomes
// a stretch of its own.
func (sw *sweep) split(key []byte) {
	rest := stretch{from: bytes.Clone(key), due: sw.was}
	sw.stretches = slices.Insert(sw.stretches, sw.at+1, rest)
	sw.end()
	sw.at++
}

// give ends the visit of a stretch that cannot be read: what is in it is not
// swept until something there is given an expiry again.
func (sw *sweep) give() { sw.visiting = false }
