package kv

import (
	"bytes"
	"math/bits"
	"math/rand/v2"
)

// overlay holds what a writable Tx has changed, sorted by key: a skip list in
// the Go heap. Nodes are never taken out, deleting a key stores a tombstone:
// a cursor may keep a node, and the slices that were given out stay as they
// are, because a later Put of the key makes a new image.
type overlay struct {
	head   node // before the first; only its links count
	tail   *node
	tower  int // links that the highest node has
	ranges []keyRange
	added  int    // nodes: when it grows, a cursor looks again for its next one
	chunk  []byte // where images are cut from
	reuse  bool   // a test has switched R3 off
}

// node is the newest change to a key.
type node struct {
	kind    byte
	covered bool   // deleted by one of the ranges
	expiry  int64  // Unix nanoseconds, 0: never
	image   []byte // room for a header, then key and value
	key     []byte // in image
	prev    *node  // nil before the first
	next    []*node
}

const (
	maxTower = 16 // enough for 4^16 keys

	// Images are cut from chunks that grow with the transaction, so that a
	// short one takes little and a long one does not allocate for each key.
	chunkBytesMin = 512
	chunkBytesMax = 64 << 10
)

func (n *node) value() []byte {
	v := n.image[maxRecHeader+len(n.key):]
	return v[:len(v):len(v)]
}

// find returns the first node whose key is not below key, or nil. If before is
// not nil it is filled with the last node below key on every level.
func (o *overlay) find(key []byte, before *[maxTower]*node) *node {
	at := &o.head
	for level := o.tower - 1; level >= 0; level-- {
		for n := at.link(level); n != nil && bytes.Compare(n.key, key) < 0; n = at.link(level) {
			at = n
		}
		if before != nil {
			before[level] = at
		}
	}
	return at.link(0)
}

func (n *node) link(level int) *node {
	if level < len(n.next) {
		return n.next[level]
	}
	return nil
}

// get returns the change to key, or nil.
func (o *overlay) get(key []byte) *node {
	if n := o.find(key, nil); n != nil && bytes.Equal(n.key, key) {
		return n
	}
	return nil
}

// first and last return the outermost nodes, nil if there is none.
func (o *overlay) first() *node { return o.head.link(0) }
func (o *overlay) last() *node  { return o.tail }

// after returns the first node above key, below the last one below it.
func (o *overlay) after(key []byte) *node {
	n := o.find(key, nil)
	if n != nil && bytes.Equal(n.key, key) {
		return n.link(0)
	}
	return n
}

func (o *overlay) below(key []byte) *node {
	if n := o.find(key, nil); n != nil {
		return n.prev
	}
	return o.tail
}

// set records a change. key and value are copied.
func (o *overlay) set(kind byte, key, value []byte, expiry int64) {
	var before [maxTower]*node
	n := o.find(key, &before)
	if n == nil || !bytes.Equal(n.key, key) {
		n = o.insert(&before)
	}
	n.kind, n.covered, n.expiry = kind, false, expiry
	if o.reuse && len(n.image) == maxRecHeader+len(key)+len(value) {
		copy(n.value(), value)
		return
	}
	n.image = o.copyImage(key, value)
	n.key = n.image[maxRecHeader : maxRecHeader+len(key) : maxRecHeader+len(key)]
}

// insert links a new node behind those of before, on as many levels as chance
// says: one in four nodes reaches the next level.
func (o *overlay) insert(before *[maxTower]*node) *node {
	height := min(1+bits.TrailingZeros64(rand.Uint64())/2, maxTower)
	for ; o.tower < height; o.tower++ {
		before[o.tower] = &o.head
		o.head.next = append(o.head.next, nil)
	}
	n := &node{next: make([]*node, height)}
	for level := range height {
		n.next[level] = before[level].next[level]
		before[level].next[level] = n
	}
	if before[0] != &o.head {
		n.prev = before[0]
	}
	if n.next[0] != nil {
		n.next[0].prev = n
	} else {
		o.tail = n
	}
	o.added++
	return n
}

// copyImage makes an image in a chunk, or in memory of its own where it is
// large. There is room behind it up to a whole word: see padded.
func (o *overlay) copyImage(key, value []byte) []byte {
	size := maxRecHeader + len(key) + len(value)
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

// keyRange is the keys from start up to end; a nil end is open.
type keyRange struct{ start, end []byte }

// cover notes the deletion of a range; cover each of its keys with coverKey.
func (o *overlay) cover(start, end []byte) {
	r := keyRange{start: bytes.Clone(start)}
	if end != nil {
		r.end = append([]byte{}, end...)
	}
	o.ranges = append(o.ranges, r)
}

// coverKey deletes a key of the range that was covered last.
func (o *overlay) coverKey(key []byte) {
	o.set(kindDelete, key, nil, 0)
	o.get(key).covered = true
}

// entries returns all changes as a commit takes them: the ranges, then the keys.
// What is put in a range was put after it was deleted.
func (o *overlay) entries() []entry {
	es := make([]entry, 0, len(o.ranges)+o.added)
	for _, r := range o.ranges {
		image := appendImage(nil, r.start, r.end)
		es = append(es, entry{kind: kindRange, open: r.end == nil, image: image, key: image[maxRecHeader : maxRecHeader+len(r.start)]})
	}
	for n := o.first(); n != nil; n = n.link(0) {
		es = append(es, entry{kind: n.kind, covered: n.covered, image: n.image, key: n.key, expiry: n.expiry})
	}
	return es
}
