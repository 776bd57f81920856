package kv

import (
	"bytes"
	"math/bits"
	"math/rand/v2"

	"nvkv/kv/internal/record"
)

// skipList holds nodes sorted by key. The zero value is empty.
type skipList struct {
	head  node // before the first node; only its links are used
	tail  *node
	tower int // number of levels
	nodes int
	added int // nodes ever inserted
}

// node is a change of a key, or a deleted range.
type node struct {
	kind   byte
	open   bool   // a range without an end
	expiry int64  // Unix nanoseconds, 0: never
	image  []byte // space for a header, then key and value; of a range its start and its end
	key    []byte // in image
	prev   *node  // nil before the first
	next   []*node
}

const maxTower = 16 // enough for 4^16 keys

func (n *node) value() []byte {
	v := n.image[record.MaxHeaderBytes+len(n.key):]
	return v[:len(v):len(v)]
}

// find returns the first node whose key is not below key, or nil. If before is not nil, find fills
// it with the last node below key on every level.
func (l *skipList) find(key []byte, before *[maxTower]*node) *node {
	at := &l.head
	for level := l.tower - 1; level >= 0; level-- {
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

// get returns the node of key, or nil.
func (l *skipList) get(key []byte) *node {
	if n := l.find(key, nil); n != nil && bytes.Equal(n.key, key) {
		return n
	}
	return nil
}

// first and last return the outermost nodes, or nil.
func (l *skipList) first() *node { return l.head.link(0) }
func (l *skipList) last() *node  { return l.tail }

// after returns the first node above key, below the last node below key; nil if there is none.
func (l *skipList) after(key []byte) *node {
	n := l.find(key, nil)
	if n != nil && bytes.Equal(n.key, key) {
		return n.link(0)
	}
	return n
}

func (l *skipList) below(key []byte) *node {
	if n := l.find(key, nil); n != nil {
		return n.prev
	}
	return l.tail
}

// atOrBelow returns the last node whose key is not above key, or nil.
func (l *skipList) atOrBelow(key []byte) *node {
	switch n := l.find(key, nil); {
	case n == nil:
		return l.tail
	case bytes.Equal(n.key, key):
		return n
	default:
		return n.prev
	}
}

// insert inserts a new node after the nodes of before. Its height is random: one in four nodes
// reaches the next level.
func (l *skipList) insert(before *[maxTower]*node) *node {
	height := min(1+bits.TrailingZeros64(rand.Uint64())/2, maxTower)
	for ; l.tower < height; l.tower++ {
		before[l.tower] = &l.head
		l.head.next = append(l.head.next, nil)
	}
	n := &node{next: make([]*node, height)}
	for level := range height {
		n.next[level] = before[level].next[level]
		before[level].next[level] = n
	}
	if before[0] != &l.head {
		n.prev = before[0]
	}
	if n.next[0] != nil {
		n.next[0].prev = n
	} else {
		l.tail = n
	}
	l.nodes++
	l.added++
	return n
}

// remove removes a node.
func (l *skipList) remove(n *node) {
	var before [maxTower]*node
	l.find(n.key, &before)
	l.nodes--
	for level, next := range n.next {
		before[level].next[level] = next
	}
	if next := n.next[0]; next != nil {
		next.prev = n.prev
	} else {
		l.tail = n.prev
	}
}
