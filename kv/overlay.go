package kv

import (
	"bytes"

	"nvkv/kv/internal/record"
)

// overlay holds the changes of a writable Tx, sorted by key: changes of single keys, and deleted
// ranges, each in a sorted list in the Go heap. A key in a range without a change of its own is
// deleted. Nodes of changes are never removed: deleting a key stores a tombstone. So a cursor may
// keep a node. Slices that were returned do not change, because a later Put of the key makes a new
// image.
type overlay struct {
	sortedList            // changes; when added grows, a cursor searches its next change again
	ranges     sortedList // no two of them overlap or touch
	chunk      []byte     // memory for images
	reuse      bool       // a test has switched R3 off
}

// Images are cut from chunks whose size grows with the transaction. So a short transaction takes
// little memory, and a long one does not allocate for each key.
const (
	chunkBytesMin = 512
	chunkBytesMax = 64 << 10
)

// set stores a change. key and value are copied.
func (o *overlay) set(kind byte, key, value []byte, expiry int64) {
	n, at := o.find(key)
	if n == nil || !bytes.Equal(n.key, key) {
		n = o.insert(key, n, at)
	}
	n.kind, n.expiry = kind, expiry
	if o.reuse && len(n.image) == record.MaxHeaderBytes+len(key)+len(value) {
		copy(n.value(), value)
		return
	}
	n.image = o.copyImage(key, value)
	n.key = n.image[record.MaxHeaderBytes : record.MaxHeaderBytes+len(key) : record.MaxHeaderBytes+len(key)]
}

// adopt stores a put whose image belongs to the caller and does not change.
func (o *overlay) adopt(e *entry) {
	o.set(record.KindPut, e.key, nil, e.expiry)
	n := o.get(e.key)
	n.image, n.key = e.image, e.key
}

// copyImage makes an image in a chunk or, if it is large, in memory of its own. Its capacity is a
// whole number of words, see padded.
func (o *overlay) copyImage(key, value []byte) []byte {
	size := record.MaxHeaderBytes + len(key) + len(value)
	room := (size + 7) &^ 7
	if room > chunkBytesMax/4 {
		return appendImage(make([]byte, 0, room), key, value)
	}
	if cap(o.chunk)-len(o.chunk) < room {
		o.chunk = make([]byte, 0, max(room, min(max(chunkBytesMin, 2*cap(o.chunk)), chunkBytesMax)))
	}
	at := len(o.chunk)
	o.chunk = appendImage(o.chunk, key, value)[:at+room]
	return o.chunk[at : at+size : at+room]
}

// covered is the change of every key that lies in a deleted range and has no change of its own.
var covered = &node{kind: record.KindDelete}

// change returns the change of key, or nil.
func (o *overlay) change(key []byte) *node {
	n := o.get(key)
	if n == nil && o.rangeAt(key) != nil {
		return covered
	}
	return n
}

// rangeAt returns the deleted range that contains key, or nil.
func (o *overlay) rangeAt(key []byte) *node {
	if n := o.ranges.atOrBelow(key); n != nil && inside(key, n.end()) {
		return n
	}
	return nil
}

// end returns the end of a range, or nil if it is open.
func (n *node) end() []byte {
	if n.open {
		return nil
	}
	return n.value()
}

// deleteRange deletes the keys of a range, including those that the Tx put before. Keys that it
// puts later stay.
func (o *overlay) deleteRange(r keyRange) {
	for n, _ := o.find(r.start); n != nil && inside(n.key, r.end); n = n.next {
		n.kind, n.expiry = record.KindDelete, 0 // the image stays: the caller may have slices of it
	}
	if n := o.ranges.atOrBelow(r.start); n != nil && !endsBelow(n.end(), r.start) {
		if n.open || r.end != nil && !endsBelow(n.end(), r.end) {
			return // it contains all of r
		}
		r.start = n.key
	}
	for n, _ := o.ranges.find(r.start); n != nil && !endsBelow(r.end, n.key); n = n.next {
		if r.end != nil && (n.open || endsBelow(r.end, n.end())) {
			r.end = n.end()
		}
		o.ranges.remove(n)
	}
	o.addRange(r)
}

// endsBelow says whether a range with this end leaves a gap before bound. A nil end is open.
func endsBelow(end, bound []byte) bool { return end != nil && bytes.Compare(end, bound) < 0 }

// addRange adds a range that touches no other one.
func (o *overlay) addRange(r keyRange) {
	next, at := o.ranges.find(r.start)
	n := o.ranges.insert(r.start, next, at)
	size := record.MaxHeaderBytes + len(r.start) + len(r.end)
	n.kind, n.open = record.KindRange, r.end == nil
	n.image = appendImage(make([]byte, 0, (size+7)&^7), r.start, r.end)
	n.key = n.image[record.MaxHeaderBytes : record.MaxHeaderBytes+len(r.start) : record.MaxHeaderBytes+len(r.start)]
}

// entries returns all changes in the form for a commit: the ranges, then the keys. A put in a range
// came after the range was deleted. A delete in a range needs no entry.
func (o *overlay) entries() []entry {
	changes := 0
	for range o.uncovered {
		changes++
	}
	es := make([]entry, 0, o.ranges.nodes+changes)
	for n := o.ranges.head; n != nil; n = n.next {
		es = append(es, rangeEntry(n.image, n.key, n.open))
	}
	for n := range o.uncovered {
		es = append(es, entry{kind: n.kind, image: n.image, key: n.key, expiry: n.expiry})
	}
	return es
}

// uncovered yields the changes, without the deletes that lie in a range.
func (o *overlay) uncovered(yield func(*node) bool) {
	r := o.ranges.head
	for n := o.head; n != nil; n = n.next {
		for r != nil && !inside(n.key, r.end()) {
			r = r.next
		}
		if n.kind == record.KindDelete && r != nil && bytes.Compare(r.key, n.key) <= 0 {
			continue
		}
		if !yield(n) {
			return
		}
	}
}
