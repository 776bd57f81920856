package kv

import (
	"bytes"
	"slices"
	"sort"

	"nvkv/kv/internal/btree"
	"nvkv/kv/internal/record"
)

// sortedList holds nodes sorted by key. The nodes are linked in their order. Above them lies an
// array of blocks, each with the nodes of a stretch. For each node a block has eight bytes of its
// key, behind the prefix that all keys share, so a search compares numbers that lie side by side,
// and whole keys only where these are equal. The zero value is empty.
type sortedList struct {
	blocks []listBlock // none is empty
	prefix []byte      // all keys begin with it
	head   *node       // the first and the last node
	tail   *node
	nodes  int
	added  int // nodes ever inserted
}

// listBlock is a stretch of nodes.
type listBlock struct {
	low     uint64 // lead of the first entry
	entries []listEntry
}

// listEntry names a node. lead is the lead of its key behind the list's prefix.
type listEntry struct {
	lead uint64
	node *node
}

// listBlockMost is the number of entries of a full block. To insert moves half a block on average;
// a search reads about two of its cache lines whatever its size.
const listBlockMost = 256

// listPlace is a place between two nodes: the one before entry at of a block.
type listPlace struct{ block, at int }

// node is a change of a key, or a deleted range.
type node struct {
	kind       byte
	open       bool   // a range without an end
	expiry     int64  // Unix nanoseconds, 0: never
	image      []byte // space for a header, then key and value; of a range its start and its end
	key        []byte // in image
	prev, next *node  // neighbours, nil at the ends
}

func (n *node) value() []byte {
	v := n.image[record.MaxHeaderBytes+len(n.key):]
	return v[:len(v):len(v)]
}

// find returns the first node whose key is not below key, or nil, and the place before it.
func (l *sortedList) find(key []byte) (*node, listPlace) {
	if l.nodes == 0 {
		return nil, listPlace{}
	}
	if !bytes.HasPrefix(key, l.prefix) {
		if bytes.Compare(key, l.prefix) < 0 {
			return l.head, listPlace{}
		}
		last := len(l.blocks) - 1
		return nil, listPlace{last, len(l.blocks[last].entries)}
	}
	lead := btree.LeadOf(key[len(l.prefix):])
	b := sort.Search(len(l.blocks), func(i int) bool {
		b := &l.blocks[i]
		return b.low > lead || b.low == lead && bytes.Compare(b.entries[0].node.key, key) > 0
	})
	b = max(b-1, 0) // the last block that does not begin above key
	es := l.blocks[b].entries
	i := sort.Search(len(es), func(i int) bool {
		e := &es[i]
		return e.lead > lead || e.lead == lead && bytes.Compare(e.node.key, key) >= 0
	})
	switch {
	case i < len(es):
		return es[i].node, listPlace{b, i}
	case b+1 < len(l.blocks):
		return l.blocks[b+1].entries[0].node, listPlace{b, i}
	}
	return nil, listPlace{b, i}
}

// get returns the node of key, or nil.
func (l *sortedList) get(key []byte) *node {
	if n, _ := l.find(key); n != nil && bytes.Equal(n.key, key) {
		return n
	}
	return nil
}

// after returns the first node above key, below the last node below key; nil if there is none.
func (l *sortedList) after(key []byte) *node {
	n, _ := l.find(key)
	if n != nil && bytes.Equal(n.key, key) {
		return n.next
	}
	return n
}

func (l *sortedList) below(key []byte) *node {
	if n, _ := l.find(key); n != nil {
		return n.prev
	}
	return l.tail
}

// atOrBelow returns the last node whose key is not above key, or nil.
func (l *sortedList) atOrBelow(key []byte) *node {
	switch n, _ := l.find(key); {
	case n == nil:
		return l.tail
	case bytes.Equal(n.key, key):
		return n
	default:
		return n.prev
	}
}

// insert inserts a new node. next and p are what find returned for its key.
func (l *sortedList) insert(key []byte, next *node, p listPlace) *node {
	n := &node{key: key, next: next, prev: l.tail}
	if next != nil {
		n.prev, next.prev = next.prev, n
	} else {
		l.tail = n
	}
	if n.prev != nil {
		n.prev.next = n
	} else {
		l.head = n
	}
	l.share(key)
	l.nodes++
	l.added++
	l.enter(listEntry{btree.LeadOf(key[len(l.prefix):]), n}, p)
	return n
}

// enter adds an entry to the blocks. A full block is divided, in the middle or, where keys are
// appended, at its end.
func (l *sortedList) enter(e listEntry, p listPlace) {
	if len(l.blocks) == 0 {
		l.blocks = append(l.blocks, listBlock{})
	}
	b := &l.blocks[p.block]
	if len(b.entries) == listBlockMost {
		half := listBlockMost / 2
		if p.at == listBlockMost {
			half = p.at
		}
		right := listBlock{entries: slices.Clone(b.entries[half:])}
		if len(right.entries) > 0 {
			right.low = right.entries[0].lead
		}
		b.entries = slices.Delete(b.entries, half, listBlockMost)
		l.blocks = slices.Insert(l.blocks, p.block+1, right)
		if p.at >= half {
			p = listPlace{p.block + 1, p.at - half}
		}
		b = &l.blocks[p.block]
	}
	b.entries = slices.Insert(b.entries, p.at, e)
	b.low = b.entries[0].lead
}

// remove removes a node.
func (l *sortedList) remove(n *node) {
	_, p := l.find(n.key)
	if p.at == len(l.blocks[p.block].entries) {
		p = listPlace{p.block + 1, 0}
	}
	b := &l.blocks[p.block]
	if b.entries = slices.Delete(b.entries, p.at, p.at+1); len(b.entries) > 0 {
		b.low = b.entries[0].lead
	} else {
		l.blocks = slices.Delete(l.blocks, p.block, p.block+1)
	}
	l.nodes--
	if n.next != nil {
		n.next.prev = n.prev
	} else {
		l.tail = n.prev
	}
	if n.prev != nil {
		n.prev.next = n.next
	} else {
		l.head = n.next
	}
}

// sharedMost is the number of nodes from which the prefix becomes at most half as long whenever it
// becomes shorter. So all leads are computed again only a few times.
const sharedMost = 1024

// share shortens the prefix to what it has in common with key.
func (l *sortedList) share(key []byte) {
	if l.nodes == 0 {
		l.prefix = bytes.Clone(key)
		return
	}
	if bytes.HasPrefix(key, l.prefix) {
		return
	}
	n := btree.CommonPrefix(key, l.prefix)
	if l.nodes >= sharedMost {
		n = min(n, len(l.prefix)/2)
	}
	l.prefix = l.prefix[:n]
	for i := range l.blocks {
		b := &l.blocks[i]
		for j := range b.entries {
			b.entries[j].lead = btree.LeadOf(b.entries[j].node.key[n:])
		}
		b.low = b.entries[0].lead
	}
}
