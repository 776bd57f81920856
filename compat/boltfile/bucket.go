package boltfile

import (
	"bytes"
	"context"
	"errors"
	"fmt"
)

// Entry is an entry of a bucket: a key with a value or with a nested bucket.
type Entry struct {
	Key      []byte
	Value    []byte // of a bucket: its header, and its page if the bucket is small
	IsBucket bool

	page uint64 // page number of the leaf
}

// Bucket is a bucket of a File. It is safe for concurrent use.
type Bucket struct {
	file     *File
	root     uint64
	sequence uint64
	inline   page // the bucket's leaf, if it lies inside an element
	within   uint64
	depth    int
}

// Sequence returns the bucket's sequence number.
func (b *Bucket) Sequence() uint64 { return b.sequence }

// Each calls fn with every entry, in ascending order of keys. It stops when fn returns an error and
// returns that error. When ctx is done it returns the error of ctx.
func (b *Bucket) Each(ctx context.Context, fn func(Entry) error) error {
	w := walk{file: b.file, seen: b.file.newPageSet(), fn: func(e Entry) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		return fn(e)
	}}
	return w.bucket(b)
}

// Walk is Each for the entries of b and of all buckets below. It enters a bucket after the entry of
// the bucket. in is the bucket that contains the entry, and path has the names of the buckets from
// b to in.
func (b *Bucket) Walk(ctx context.Context, fn func(path [][]byte, in *Bucket, e Entry) error) error {
	return b.walk(ctx, b.file.newPageSet(), nil, fn)
}

func (b *Bucket) walk(ctx context.Context, seen pageSet, path [][]byte, fn func(path [][]byte, in *Bucket, e Entry) error) error {
	w := walk{file: b.file, seen: seen, fn: func(e Entry) error {
		if err := errors.Join(ctx.Err(), fn(path, b, e)); err != nil || !e.IsBucket {
			return err
		}
		nested, err := b.Nested(e)
		if err != nil {
			return err
		}
		return nested.walk(ctx, seen, append(path[:len(path):len(path)], bytes.Clone(e.Key)), fn)
	}}
	return w.bucket(b)
}

// Empty reports whether the bucket has no entries.
func (b *Bucket) Empty() (bool, error) {
	any := false
	err := b.Each(context.Background(), func(Entry) error {
		any = true
		return errStopped
	})
	if any {
		err = nil
	}
	return !any, err
}

var errStopped = errors.New("boltfile: stopped")

// Nested returns the bucket of an entry for which IsBucket is true. The bucket remains valid after
// the callback that received the entry.
func (b *Bucket) Nested(e Entry) (*Bucket, error) {
	if !e.IsBucket || len(e.Value) < bucketHeader {
		return nil, corrupt(e.page, "key %q holds no bucket", short(e.Key))
	}
	if b.root == 0 {
		return nil, corrupt(e.page, "a bucket in one that is not large enough to hold any")
	}
	if b.depth == maxDepth {
		return nil, corrupt(e.page, "buckets are nested more than %d deep", maxDepth)
	}
	n := &Bucket{file: b.file, root: le.Uint64(e.Value), sequence: le.Uint64(e.Value[8:]), depth: b.depth + 1}
	if n.root == 0 {
		n.inline, n.within = bytes.Clone(e.Value[bucketHeader:]), e.page
	}
	return n, nil
}

// Bucket returns the bucket with the given name, or ErrBucketNotFound.
func (b *Bucket) Bucket(name []byte) (*Bucket, error) {
	e, found, err := b.find(name)
	if err != nil {
		return nil, err
	}
	if !found || !e.IsBucket {
		return nil, fmt.Errorf("%w: %q", ErrBucketNotFound, short(name))
	}
	return b.Nested(e)
}

// Get returns a copy of the value of a key, and whether the key has a value.
func (b *Bucket) Get(key []byte) (value []byte, found bool, err error) {
	e, found, err := b.find(key)
	if err != nil || !found || e.IsBucket {
		return nil, false, err
	}
	return append([]byte{}, e.Value...), true, nil
}

// find descends the tree to key.
func (b *Bucket) find(key []byte) (e Entry, found bool, err error) {
	p, number, err := b.top(nil)
	for depth := 0; err == nil && p.kind() == kindBranch; depth++ {
		if depth == maxDepth {
			return e, false, corrupt(number, "more than %d levels", maxDepth)
		}
		if number, err = p.childFor(number, key); err == nil {
			p, err = b.file.read(number, nil)
		}
	}
	if err != nil {
		return e, false, err
	}
	if p.kind() != kindLeaf {
		return e, false, corrupt(number, "kind %#x where a branch or leaf must be", p.kind())
	}
	for i := range p.count() {
		e, ok := p.leaf(i)
		if !ok {
			return e, false, corrupt(number, "element %d of %d leads out of it", i, p.count())
		}
		if c := bytes.Compare(e.Key, key); c >= 0 {
			e.page = number
			return e, c == 0, nil
		}
	}
	return e, false, nil
}

// childFor returns the page below a branch in which key must be.
func (p page) childFor(number uint64, key []byte) (child uint64, err error) {
	for i := range p.count() {
		first, c, ok := p.branch(i)
		if !ok {
			return 0, corrupt(number, "element %d of %d leads out of it", i, p.count())
		}
		if i > 0 && bytes.Compare(first, key) > 0 {
			break
		}
		child = c
	}
	if p.count() == 0 {
		return 0, corrupt(number, "a branch without children")
	}
	return child, nil
}

// top returns the root page of the bucket.
func (b *Bucket) top(buf []byte) (page, uint64, error) {
	if b.root != 0 {
		p, err := b.file.read(b.root, buf)
		return p, b.root, err
	}
	if len(b.inline) < pageHeader || b.inline.kind() != kindLeaf {
		return nil, 0, corrupt(b.within, "a bucket inside it is no leaf")
	}
	return b.inline, b.within, nil
}

// short truncates a key for an error text.
func short(key []byte) []byte {
	const most = 64
	if len(key) > most {
		return append(bytes.Clone(key[:most]), "..."...)
	}
	return key
}

// pageSet is a set of pages, with a bit for each.
type pageSet []uint64

func (f *File) newPageSet() pageSet { return make(pageSet, f.pages/64+1) }

// add adds a page, and reports whether it is new.
func (s pageSet) add(number uint64) bool {
	w, bit := &s[number/64], uint64(1)<<(number%64)
	old := *w
	*w |= bit
	return old&bit == 0
}

// walk visits the pages of a bucket. In a sound file each page is reached once.
type walk struct {
	file  *File
	seen  pageSet
	fn    func(Entry) error
	visit func(number uint64, more uint32) // called for each page, unless it is nil
	bufs  [][]byte                         // a page buffer for each level
	last  []byte                           // last key of the current bucket
	any   bool                             // whether there was a key
}

func (w *walk) bucket(b *Bucket) error {
	w.any = false
	p, number, err := b.top(w.buffer(0))
	if err != nil {
		return err
	}
	if b.root == 0 {
		return w.leaf(p, number, nil, nil)
	}
	if err := w.visited(p, number); err != nil {
		return err
	}
	w.keep(0, p)
	return w.page(p, number, 0, nil, nil)
}

func (w *walk) buffer(level int) []byte {
	for len(w.bufs) <= level {
		w.bufs = append(w.bufs, nil)
	}
	return w.bufs[level]
}

func (w *walk) keep(level int, p page) { w.bufs[level] = p }

// visited notes that a page and its overflow pages are reached.
func (w *walk) visited(p page, number uint64) error {
	for n := number; n <= number+uint64(p.overflow()); n++ {
		if !w.seen.add(n) {
			return corrupt(n, "it is reached twice")
		}
	}
	if w.visit != nil {
		w.visit(number, p.overflow())
	}
	return nil
}

// page walks a page of the tree. Its keys must be at least low and below high; nil is no bound.
func (w *walk) page(p page, number uint64, level int, low, high []byte) error {
	switch p.kind() {
	case kindLeaf:
		return w.leaf(p, number, low, high)
	case kindBranch:
		return w.branch(p, number, level, high)
	}
	return corrupt(number, "kind %#x where a branch or leaf must be", p.kind())
}

func (w *walk) branch(p page, number uint64, level int, high []byte) error {
	if level == maxDepth {
		return corrupt(number, "more than %d levels", maxDepth)
	}
	n := p.count()
	if n == 0 {
		return corrupt(number, "a branch without children")
	}
	first, child, ok := p.branch(0)
	for i := range n {
		end, next, below := high, []byte(nil), uint64(0)
		if ok && i+1 < n {
			next, below, ok = p.branch(i + 1)
			end = next
		}
		if !ok {
			return corrupt(number, "element %d or %d of %d leads out of it", i, i+1, n)
		}
		if w.any && bytes.Compare(first, w.last) <= 0 {
			return corrupt(number, "key %d of %d is not above those before it", i, n)
		}
		if err := w.child(child, level+1, first, end); err != nil {
			return err
		}
		first, child = next, below
	}
	return nil
}

func (w *walk) child(number uint64, level int, low, high []byte) error {
	p, err := w.file.read(number, w.buffer(level))
	if err == nil {
		err = w.visited(p, number)
	}
	if err != nil {
		return err
	}
	w.keep(level, p)
	return w.page(p, number, level, low, high)
}

// leaf yields the entries of a leaf. Elements must not overlap: a leaf whose elements claim more
// bytes than it has names some bytes twice.
func (w *walk) leaf(p page, number uint64, low, high []byte) error {
	n, room := p.count(), len(p)-pageHeader
	for i := range n {
		e, ok := p.leaf(i)
		room -= leafElement + len(e.Key) + len(e.Value)
		switch {
		case !ok:
			return corrupt(number, "element %d of %d leads out of it", i, n)
		case room < 0:
			return corrupt(number, "elements lie over each other")
		case w.any && bytes.Compare(e.Key, w.last) <= 0:
			return corrupt(number, "key %d of %d is not above those before it", i, n)
		case bytes.Compare(e.Key, low) < 0 || high != nil && bytes.Compare(e.Key, high) >= 0:
			return corrupt(number, "key %d of %d belongs into another page", i, n)
		}
		w.last, w.any = append(w.last[:0], e.Key...), true
		e.page = number
		if err := w.fn(e); err != nil {
			return err
		}
	}
	return nil
}

// Sequence returns the sequence number of the entry's bucket, or 0 if the entry is no bucket.
func (e Entry) Sequence() uint64 {
	if !e.IsBucket {
		return 0
	}
	return le.Uint64(e.Value[8:])
}
