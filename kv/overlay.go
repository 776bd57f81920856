package kv

import (
	"bytes"

	"nvkv/kv/internal/record"
)

// overlay holds what a writable Tx has changed, sorted by key: the changes to
// single keys and the ranges that it deleted, each in a skip list in the Go heap.
// A key without a change that lies in a range is deleted. Nodes of changes are
// never taken out, deleting a key stores a tombstone: a cursor may keep a node,
// and the slices that were given out stay as they are, because a later Put of
// the key makes a new image.
type overlay struct {
	skipList          // changes; when added grows, a cursor looks again for its next one
	ranges   skipList // no two of them overlap or touch
	chunk    []byte   // where images are cut from
	reuse    bool     // a test has switched R3 off
}

// Images are cut from chunks that grow with the transaction, so that a
// short one takes little and a long one does not allocate for each key.
const (
	chunkBytesMin = 512
	chunkBytesMax = 64 << 10
)

// set records a change. key and value are copied.
func (o *overlay) set(kind byte, key, value []byte, expiry int64) {
	var before [maxTower]*node
	n := o.find(key, &before)
	if n == nil || !bytes.Equal(n.key, key) {
		n = o.insert(&before)
	}
	n.kind, n.expiry = kind, expiry
	if o.reuse && len(n.image) == record.MaxHeaderBytes+len(key)+len(value) {
		copy(n.value(), value)
		return
	}
	n.image = o.copyImage(key, value)
	n.key = n.image[record.MaxHeaderBytes : record.MaxHeaderBytes+len(key) : record.MaxHeaderBytes+len(key)]
}

// adopt records a put whose image is the caller's and will not change.
func (o *overlay) adopt(e *entry) {
	o.set(record.KindPut, e.key, nil, e.expiry)
	n := o.get(e.key)
	n.image, n.key = e.image, e.key
}

// copyImage makes an image in a chunk, or in memory of its own where it is
// large. There is room behind it up to a whole word: see padded.
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

// covered stands for every key that a range deletes and nothing was put under since.
var covered = &node{kind: record.KindDelete}

// change returns the change to key, or nil.
func (o *overlay) change(key []byte) *node {
	n := o.get(key)
	if n == nil && o.rangeAt(key) != nil {
		return covered
	}
	return n
}

// rangeAt returns the deleted range in which key lies, or nil.
func (o *overlay) rangeAt(key []byte) *node {
	if n := o.ranges.atOrBelow(key); n != nil && inside(key, n.end()) {
		return n
	}
	return nil
}

// end returns the end of a range, nil where it is open.
func (n *node) end() []byte {
	if n.open {
		return nil
	}
	return n.value()
}

// deleteRange deletes the keys of a range, those among them that were put before. What
// is put later stays.
func (o *overlay) deleteRange(r keyRange) {
	for n := o.find(r.start, nil); n != nil && inside(n.key, r.end); n = n.link(0) {
		n.kind, n.expiry = record.KindDelete, 0 // the image stays: slices of it were given out
	}
	if n := o.ranges.atOrBelow(r.start); n != nil && !endsBelow(n.end(), r.start) {
		if n.open || r.end != nil && !endsBelow(n.end(), r.end) {
			return // it has all of r
		}
		r.start = n.key
	}
	for n := o.ranges.find(r.start, nil); n != nil && !endsBelow(r.end, n.key); n = n.link(0) {
		if r.end != nil && (n.open || endsBelow(r.end, n.end())) {
			r.end = n.end()
		}
		o.ranges.remove(n)
	}
	o.addRange(r)
}

// endsBelow says whether a range with an end leaves keys out before a bound; a nil end
// is open.
func endsBelow(end, bound []byte) bool { return end != nil && bytes.Compare(end, bound) < 0 }

// addRange links a range that meets no other one.
func (o *overlay) addRange(r keyRange) {
	var before [maxTower]*node
	o.ranges.find(r.start, &before)
	n := o.ranges.insert(&before)
	size := record.MaxHeaderBytes + len(r.start) + len(r.end)
	n.kind, n.open = record.KindRange, r.end == nil
	n.image = appendImage(make([]byte, 0, (size+7)&^7), r.start, r.end)
	n.key = n.image[record.MaxHeaderBytes : record.MaxHeaderBytes+len(r.start) : record.MaxHeaderBytes+len(r.start)]
}

// entries returns all changes as a commit takes them: the ranges, then the keys.
// What is put in a range was put after it was deleted; what is deleted there, the range
// deletes.
func (o *overlay) entries() []entry {
	changes := 0
	for range o.uncovered {
		changes++
	}
	es := make([]entry, 0, o.ranges.nodes+changes)
	for n := o.ranges.first(); n != nil; n = n.link(0) {
		es = append(es, rangeEntry(n.image, n.key, n.open))
	}
	for n := range o.uncovered {
		es = append(es, entry{kind: n.kind, image: n.image, key: n.key, expiry: n.expiry})
	}
	return es
}

// uncovered yields the changes without the deletes that a range says.
func (o *overlay) uncovered(yield func(*node) bool) {
	r := o.ranges.first()
	for n := o.first(); n != nil; n = n.link(0) {
		for r != nil && !inside(n.key, r.end()) {
			r = r.link(0)
		}
		if n.kind == record.KindDelete && r != nil && bytes.Compare(r.key, n.key) <= 0 {
			continue
		}
		if !yield(n) {
			return
		}
	}
}
