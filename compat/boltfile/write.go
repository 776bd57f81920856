package boltfile

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
)

// WriteOptions are the options of a file. nil or the zero value selects the machine's page size.
type WriteOptions struct {
	PageBytes int // a power of two from 1,024 to 16 MiB; 0: the machine's page size
}

// Fill writes the content of a file to its root bucket, whose entries are buckets only. It is
// called twice and must do the same both times.
type Fill func(root *BucketWriter) error

// Measure returns the number of bytes that Write will write.
func Measure(o *WriteOptions, fill Fill) (int64, error) {
	m, err := layOut(o, fill)
	return int64(m.pages) * int64(m.pageBytes), err
}

// Write writes a bbolt file to w and returns its length in bytes. The file is as compact as
// possible: its pages are full and none is free.
func Write(w io.Writer, o *WriteOptions, fill Fill) (int64, error) {
	m, err := layOut(o, fill)
	if err != nil {
		return 0, err
	}
	out := bufio.NewWriterSize(w, 1<<20)
	for number := range uint64(2) {
		m.tx = number
		if _, err := out.Write(m.encode(number)); err != nil {
			return 0, err
		}
	}
	again, err := lay(out, m.pageBytes, fill)
	if err != nil {
		return 0, err
	}
	if again.root != m.root || again.pages != m.pages {
		return 0, errors.New("boltfile: what was to be written changed between the two calls of fill")
	}
	return int64(m.pages) * int64(m.pageBytes), out.Flush()
}

// layOut computes the layout of the file.
func layOut(o *WriteOptions, fill Fill) (meta, error) {
	size := os.Getpagesize()
	if o != nil && o.PageBytes != 0 {
		size = o.PageBytes
	}
	if size < minPageBytes || size > maxPageBytes || size&(size-1) != 0 {
		return meta{}, fmt.Errorf("boltfile: pages of %d bytes: not a power of two from %d to %d", size, minPageBytes, maxPageBytes)
	}
	return lay(io.Discard, size, fill)
}

// The freelist, which is empty, follows the metas.
const (
	freelistPage = 2
	firstPage    = 3
)

// lay writes all pages after the metas, and returns the meta for them.
func lay(w io.Writer, pageBytes int, fill Fill) (meta, error) {
	out := &pages{w: w, bytes: pageBytes, next: freelistPage}
	out.write(out.begin(kindFreelist, 0, pageHeader))
	root := &BucketWriter{out: out, isRoot: true}
	if err := root.filled(fill); err != nil {
		return meta{}, err
	}
	top, err := root.finish()
	if err != nil {
		return meta{}, err
	}
	return meta{pageBytes: pageBytes, root: top, freelist: freelistPage, pages: out.next}, out.err
}

// pages numbers pages in the order of writing.
type pages struct {
	w     io.Writer
	bytes int
	next  uint64
	buf   []byte
	err   error
}

// begin returns a buffer for a page of n bytes, in whole pages, with its header.
func (p *pages) begin(kind uint16, count, n int) []byte {
	whole := (n + p.bytes - 1) / p.bytes
	p.buf = sized(p.buf[:0], whole*p.bytes)
	clear(p.buf)
	putPageHeader(p.buf, p.next, kind, uint16(count), uint32(whole-1))
	return p.buf
}

// write writes the buffer that begin returned, and returns its page number.
func (p *pages) write(b []byte) uint64 {
	number := p.next
	p.next += uint64(len(b) / p.bytes)
	if p.err == nil {
		_, p.err = p.w.Write(b)
	}
	return number
}

// BucketWriter takes the entries of a bucket, in ascending order of keys.
type BucketWriter struct {
	out      *pages
	isRoot   bool
	closed   bool
	sequence uint64
	last     []byte
	any      bool
	buckets  bool // the bucket contains a bucket
	leaf     leafBuffer
	levels   []branchBuffer
}

// SetSequence sets the bucket's sequence number. It has no effect on the root.
func (b *BucketWriter) SetSequence(n uint64) { b.sequence = n }

// Put adds a key with its value. It copies both. The error says why bbolt could not hold the entry,
// or is that of the io.Writer.
func (b *BucketWriter) Put(key, value []byte) error {
	if b.isRoot {
		return fmt.Errorf("boltfile: key %q is in no bucket", short(key))
	}
	if len(value) > MaxValueBytes {
		return fmt.Errorf("boltfile: key %q: a value of %d bytes, at most %d", short(key), len(value), MaxValueBytes)
	}
	return b.add(0, key, value)
}

// Bucket adds a nested bucket, whose content fill writes.
func (b *BucketWriter) Bucket(name []byte, fill func(*BucketWriter) error) error {
	if err := b.check(name); err != nil { // before any of the bucket is written
		return err
	}
	nested := &BucketWriter{out: b.out}
	if err := nested.filled(fill); err != nil {
		return err
	}
	b.buckets = true
	value, err := nested.value()
	if err != nil {
		return err
	}
	return b.add(flagBucket, name, value)
}

func (b *BucketWriter) filled(fill func(*BucketWriter) error) error {
	err := fill(b)
	b.closed = true
	return errors.Join(err, b.out.err)
}

func (b *BucketWriter) check(key []byte) error {
	switch {
	case b.closed:
		return errors.New("boltfile: the bucket is finished")
	case len(key) == 0 || len(key) > MaxKeyBytes:
		return fmt.Errorf("boltfile: a key of %d bytes: from 1 to %d", len(key), MaxKeyBytes)
	case b.any && bytes.Compare(key, b.last) <= 0:
		return fmt.Errorf("boltfile: key %q does not follow %q", short(key), short(b.last))
	}
	return b.out.err
}

func (b *BucketWriter) add(flags uint32, key, value []byte) error {
	if err := b.check(key); err != nil {
		return err
	}
	b.last, b.any = append(b.last[:0], key...), true
	n := leafElement + len(key) + len(value)
	if b.leaf.count() > 0 && (pageHeader+b.leaf.bytes+n > b.out.bytes || b.leaf.count() == manyFree-1) {
		b.flushLeaf()
	}
	b.leaf.add(flags, key, value)
	return b.out.err
}

func (b *BucketWriter) flushLeaf() {
	first := bytes.Clone(b.leaf.first())
	page := b.out.begin(kindLeaf, b.leaf.count(), pageHeader+b.leaf.bytes)
	b.leaf.encode(page)
	b.leaf.reset()
	b.up(0, first, b.out.write(page))
}

// up adds a page to the branch above it.
func (b *BucketWriter) up(level int, first []byte, child uint64) {
	if level == len(b.levels) {
		b.levels = append(b.levels, branchBuffer{})
	}
	l := &b.levels[level]
	n := branchElement + len(first)
	if len(l.children) >= 2 && (pageHeader+l.bytes+n > b.out.bytes || len(l.children) == manyFree-1) {
		b.flushBranch(level)
		l = &b.levels[level]
	}
	l.keys, l.children = append(l.keys, first), append(l.children, child)
	l.bytes += n
}

func (b *BucketWriter) flushBranch(level int) {
	l := &b.levels[level]
	page := b.out.begin(kindBranch, len(l.children), pageHeader+l.bytes)
	l.encode(page)
	first := l.keys[0]
	*l = branchBuffer{}
	b.up(level+1, first, b.out.write(page))
}

// finish writes the remaining pages and returns the bucket's root page.
func (b *BucketWriter) finish() (uint64, error) {
	if b.leaf.count() > 0 || len(b.levels) == 0 {
		if b.leaf.count() == 0 {
			return b.out.write(b.out.begin(kindLeaf, 0, pageHeader)), b.out.err
		}
		b.flushLeaf()
	}
	for level := 0; ; level++ {
		if len(b.levels) == level+1 && len(b.levels[level].children) == 1 {
			return b.levels[level].children[0], b.out.err
		}
		b.flushBranch(level)
	}
}

// value returns the value of the bucket's entry in its parent. A small bucket without nested
// buckets is stored in the entry.
func (b *BucketWriter) value() ([]byte, error) {
	head := make([]byte, bucketHeader)
	le.PutUint64(head[8:], b.sequence)
	size := pageHeader + b.leaf.bytes
	if len(b.levels) == 0 && !b.buckets && size <= b.out.bytes/4 {
		all := append(head, make([]byte, size)...)
		putPageHeader(all[bucketHeader:], 0, kindLeaf, uint16(b.leaf.count()), 0)
		b.leaf.encode(all[bucketHeader:])
		return all, nil
	}
	root, err := b.finish()
	le.PutUint64(head, root)
	return head, err
}

// leafBuffer collects the elements of a leaf.
type leafBuffer struct {
	elements []bufferedElement
	data     []byte // keys and values
	bytes    int    // size of all elements in a page
}

type bufferedElement struct {
	flags              uint32
	keyBytes, valBytes int
}

func (l *leafBuffer) count() int { return len(l.elements) }

// first returns the key of the first element.
func (l *leafBuffer) first() []byte { return l.data[:l.elements[0].keyBytes] }

func (l *leafBuffer) add(flags uint32, key, value []byte) {
	l.elements = append(l.elements, bufferedElement{flags, len(key), len(value)})
	l.data = append(append(l.data, key...), value...)
	l.bytes += leafElement + len(key) + len(value)
}

func (l *leafBuffer) encode(page []byte) {
	at := pageHeader + leafElement*len(l.elements)
	copy(page[at:], l.data)
	for i, e := range l.elements {
		base := pageHeader + leafElement*i
		le.PutUint32(page[base:], e.flags)
		le.PutUint32(page[base+4:], uint32(at-base))
		le.PutUint32(page[base+8:], uint32(e.keyBytes))
		le.PutUint32(page[base+12:], uint32(e.valBytes))
		at += e.keyBytes + e.valBytes
	}
}

func (l *leafBuffer) reset() { l.elements, l.data, l.bytes = l.elements[:0], l.data[:0], 0 }

// branchBuffer collects the elements of a branch.
type branchBuffer struct {
	keys     [][]byte
	children []uint64
	bytes    int
}

func (l *branchBuffer) encode(page []byte) {
	at := pageHeader + branchElement*len(l.keys)
	for i, key := range l.keys {
		base := pageHeader + branchElement*i
		le.PutUint32(page[base:], uint32(at-base))
		le.PutUint32(page[base+4:], uint32(len(key)))
		le.PutUint64(page[base+8:], l.children[i])
		copy(page[at:], key)
		at += len(key)
	}
}
