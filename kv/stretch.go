package kv

import (
	"bytes"
	"slices"
	"sort"
)

// DRAM holds where keys may have expired: stretches of keys, each with the earliest expiry in it. A
// stretch has a few leaves. Stretches divide the keys, not the pages, so they need no change when
// pages are copied, split or merged. They are in DRAM, so a put with an expiry writes nothing more.
// An opening begins with one stretch about which nothing is known.

// stretch is the keys from from up to the next stretch.
type stretch struct {
	from   []byte
	due    int64 // no key in it expires earlier; 0: none expires
	leaves int   // number of leaves at the last visit
}

const (
	stretchLeaves = 8  // most leaves of a stretch, when it is visited
	stretchBytes  = 40 // DRAM of a stretch without its key
	unseen        = 1  // due of a stretch that was never visited
)

// sweep is the progress of collecting expired keys. The turn guards it.
type sweep struct {
	stretches []stretch // in order of keys; the first begins at the lowest key
	next      int64     // no stretch is due earlier; 0: none is due
	collected uint64    // keys
	visited   uint64    // leaves

	// The visit under way:
	visiting bool
	at       int    // index of its stretch
	from     []byte // key at which it continues
	was      int64  // due when it began; stretches[at].due is that of keys put since
	left     int64  // earliest expiry of the keys that it passed
	leaves   int    // leaves that it passed
}

// bytes returns the DRAM that the stretches take, approximately.
func (sw *sweep) bytes() (n int64) {
	for i := range sw.stretches {
		n += stretchBytes + int64(len(sw.stretches[i].from))
	}
	return n
}

// begin makes the stretch that covers all keys.
func (sw *sweep) begin() {
	if sw.stretches == nil {
		sw.stretches, sw.next = []stretch{{due: unseen}}, unseen
	}
}

// expires records that key was given an expiry. 0 means none.
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

// pick begins a visit of a stretch that may have expired keys, unless a visit is under way. It
// returns false if there is none.
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

// beyond says whether key lies behind the visited stretch.
func (sw *sweep) beyond(key []byte) bool {
	next := sw.at + 1
	return next < len(sw.stretches) && bytes.Compare(key, sw.stretches[next].from) >= 0
}

// end ends the visit. It joins small adjacent stretches.
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

// split ends the visit at a key. The rest, which was not visited, becomes a stretch of its own.
func (sw *sweep) split(key []byte) {
	rest := stretch{from: bytes.Clone(key), due: sw.was}
	sw.stretches = slices.Insert(sw.stretches, sw.at+1, rest)
	sw.end()
	sw.at++
}

// giveUp ends the visit of a stretch that cannot be read. It is not visited again until a key in it
// is given an expiry.
func (sw *sweep) giveUp() { sw.visiting = false }
