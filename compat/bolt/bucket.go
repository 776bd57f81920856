package bbolt

import (
	stderrors "errors"
	"math"

	"go.etcd.io/bbolt/errors"
	"go.etcd.io/bbolt/internal/common"
	"nvkv/kv"
)

const (
	// MaxKeySize is how long a key may be, in bytes.
	MaxKeySize = 32768

	// MaxValueSize is how long a value may be in bbolt, in bytes. Here it may be half as
	// long: 1 GiB less one byte.
	MaxValueSize = (1 << 31) - 2

	// maxValue is how long a value may be here.
	maxValue = 1<<30 - 1
)

// DefaultFillPercent is the first value of Bucket.FillPercent.
const DefaultFillPercent = 0.5

// Bucket holds items and other buckets under keys. It is valid until its transaction
// ends.
type Bucket struct {
	*common.InBucket

	// FillPercent is accepted and changes nothing.
	FillPercent float64

	tx     *Tx
	prefix prefix

	*books // nil in a read-only Tx
}

// books is what a Bucket knows in a writable Tx, where every bucket has one Bucket.
type books struct {
	nested map[string]*Bucket // those that were opened
	parent *Bucket            // nil: the root
	name   []byte
	use    usage
	saved  bucketEntry // as the store has it
	dead   bool        // deleted
}

// Tx returns the transaction.
func (b *Bucket) Tx() *Tx { return b.tx }

// Root returns the number of the bucket, which no other bucket of the database ever
// had; the root's is 0. In bbolt it is that of a page.
func (b *Bucket) Root() common.Pgid { return b.RootPage() }

// Writable says whether the bucket may be changed.
func (b *Bucket) Writable() bool { return b.tx.writable }

// usable returns why the bucket cannot be written, or nil.
func (b *Bucket) usable() error {
	switch {
	case b.tx.db == nil:
		return errors.ErrTxClosed
	case !b.tx.writable:
		return errors.ErrTxNotWritable
	case b.dead:
		return errors.ErrBucketNotFound
	}
	return nil
}

// keyRoom holds a key with its prefix, if it is no longer than most are.
type keyRoom [128]byte

// load returns what the store has under a key, nil if nothing.
func (b *Bucket) load(key []byte) []byte {
	tx := b.tx
	must(tx)
	var room keyRoom
	v, err := tx.inner.Get(b.full(room[:0], key))
	switch {
	case err == nil && len(v) > 0:
		return v
	case stderrors.Is(err, kv.ErrNotFound):
		return nil
	case err == nil:
		err = errDamaged("an item")
	}
	panic(&readError{err})
}

// full appends a key as the store has it.
func (b *Bucket) full(to, key []byte) []byte { return append(append(to, b.prefix[:]...), key...) }

// Bucket returns the nested bucket of a name, nil if there is none.
func (b *Bucket) Bucket(name []byte) *Bucket {
	if b.books != nil {
		if child := b.nested[string(name)]; child != nil {
			return child
		}
	}
	v := b.load(name)
	if len(v) == 0 || v[0] != tagBucket {
		return nil
	}
	return b.open(name, v)
}

// open makes the Bucket of an entry.
func (b *Bucket) open(name, v []byte) *Bucket {
	in, _, ok := decodeHead(v)
	box := &struct {
		Bucket
		in common.InBucket
	}{in: in}
	child := &box.Bucket
	child.InBucket, child.FillPercent, child.tx, child.prefix = &box.in, DefaultFillPercent, b.tx, prefixOf(spaceEntry, uint64(in.RootPage()))
	if ok && b.tx.writable {
		var e bucketEntry
		e, ok = decodeBucket(v)
		child.books = &books{parent: b, name: append([]byte(nil), name...), use: e.use, saved: e}
		b.adopt(child)
		b.tx.stats.IncNodeCount(1)
	}
	if !ok {
		panic(&readError{errDamaged("the entry of a bucket")})
	}
	return child
}

// adopt notes a Bucket that lies in b.
func (b *Bucket) adopt(child *Bucket) {
	if b.nested == nil {
		b.nested = map[string]*Bucket{}
	}
	child.parent = b
	b.nested[string(child.name)] = child
}

// Get returns the value of a key, nil if there is none or a bucket.
func (b *Bucket) Get(key []byte) []byte {
	v := b.load(key)
	if v == nil || v[0] != tagItem {
		return nil
	}
	return itemValue(v)
}

// Put sets the value of a key. It keeps neither slice.
func (b *Bucket) Put(key []byte, value []byte) (err error) {
	if lg := b.tx.db.Logger(); lg != silent {
		db := b.tx.db
		lg.Debugf("Putting key %q", key)
		defer func() { db.told(err, "Putting key %q", key) }()
	}
	if err := b.usable(); err != nil {
		return err
	}
	switch {
	case len(key) == 0:
		return errors.ErrKeyRequired
	case len(key) > MaxKeySize:
		return errors.ErrKeyTooLarge
	case len(value) > maxValue:
		return errors.ErrValueTooLarge
	case b.parent == nil:
		return errors.ErrIncompatibleValue // the root holds buckets only
	}
	old := b.load(key)
	if old != nil {
		if old[0] != tagItem {
			return errors.ErrIncompatibleValue
		}
		if len(old)-1 == len(value) {
			return b.write(key, value)
		}
	}
	was := b.use.apart(b.tx.layout())
	if old != nil {
		b.count(len(key), len(old)-1, goes)
	}
	b.count(len(key), len(value), comes)
	b.counted(was)
	return b.write(key, value)
}

// write puts an item.
func (b *Bucket) write(key, value []byte) error {
	tx := b.tx
	tx.gone.more = true
	tx.buffer = append(append(tx.buffer[:0], tagItem), value...)
	var room keyRoom
	err := tx.inner.Put(b.full(room[:0], key), tx.buffer)
	if cap(tx.buffer) > 1<<20 {
		tx.buffer = nil
	}
	if err != nil {
		return tx.db.translate(err)
	}
	tx.wrote(len(key) + len(value))
	return nil
}

// wrote notes that something was put or deleted.
func (tx *Tx) wrote(n int) {
	tx.changed = true
	tx.stats.Write++
	tx.stats.PageAlloc += int64(n)
	tx.stats.PageCount = tx.stats.PageAlloc/int64(tx.meta.page) + 1
}

func (tx *Tx) layout() layout { return tx.meta.layout() }

// count notes an item in the books of the bucket and of the database.
func (b *Bucket) count(key, value int, by uint64) {
	l := b.tx.layout()
	b.use.item(l, key, value, by)
	b.tx.meta.all.item(l, key, value, by)
}

// countBucket notes a nested bucket.
func (b *Bucket) countBucket(name int, by uint64) {
	l := b.tx.layout()
	was := b.use.apart(l)
	b.use.bucket(l, name, by)
	b.tx.meta.all.bucket(l, name, by)
	b.counted(was)
}

// counted notes whether the bucket has pages of its own, after a change; was says
// whether it had.
func (b *Bucket) counted(was bool) {
	if b.parent == nil {
		return
	}
	switch is := b.use.apart(b.tx.layout()); {
	case is && !was:
		b.tx.meta.apart++
	case was && !is:
		b.tx.meta.apart--
	}
}

// Delete removes an item; it need not be there.
func (b *Bucket) Delete(key []byte) (err error) {
	if lg := b.tx.db.Logger(); lg != silent {
		db := b.tx.db
		lg.Debugf("Deleting key %q", key)
		defer func() { db.told(err, "Deleting key %q", key) }()
	}
	if err := b.usable(); err != nil {
		return err
	}
	old := b.load(key)
	switch {
	case old == nil:
		return nil
	case old[0] != tagItem:
		return errors.ErrIncompatibleValue
	}
	was := b.use.apart(b.tx.layout())
	b.count(len(key), len(old)-1, goes)
	b.counted(was)
	return b.erase(key)
}

// erase removes an entry.
func (b *Bucket) erase(key []byte) error {
	var room keyRoom
	full := b.full(room[:0], key)
	if err := b.tx.inner.Delete(full); err != nil {
		return b.tx.db.translate(err)
	}
	b.tx.gone.key(full)
	b.tx.wrote(len(key))
	return nil
}

// Sequence returns the number that NextSequence returned last.
func (b *Bucket) Sequence() uint64 {
	if b.RootPage() == 0 && !b.tx.writable {
		return b.tx.known().root
	}
	return b.InSequence()
}

// SetSequence sets the number that NextSequence counts from.
func (b *Bucket) SetSequence(v uint64) error {
	if err := b.usable(); err != nil {
		return err
	}
	b.SetInSequence(v)
	return nil
}

// NextSequence returns the next number of the bucket, from 1 on. The commit keeps it.
func (b *Bucket) NextSequence() (uint64, error) {
	if err := b.usable(); err != nil {
		return 0, err
	}
	b.IncSequence()
	return b.Sequence(), nil
}

// ForEach calls fn with each item and nested bucket, of which the value is nil, in the
// order of their keys, until fn returns an error, and returns that. fn may change the
// bucket: a key that it puts ahead is met, and none is skipped.
func (b *Bucket) ForEach(fn func(k, v []byte) error) error {
	if b.tx.db == nil {
		return errors.ErrTxClosed
	}
	c := b.Cursor()
	for k, v := c.First(); k != nil; k, v = c.Next() {
		if err := fn(k, v); err != nil {
			return err
		}
	}
	return nil
}

// ForEachBucket is ForEach with the names of nested buckets alone.
func (b *Bucket) ForEachBucket(fn func(k []byte) error) error {
	if b.tx.db == nil {
		return errors.ErrTxClosed
	}
	c := b.Cursor()
	for ok := c.move(toFirst, nil); ok; ok = c.move(toNext, nil) {
		if c.tag() != tagBucket {
			continue
		}
		if err := fn(c.bare()); err != nil {
			return err
		}
	}
	return nil
}

// Inspect returns the bucket's structure, under the name "root".
func (b *Bucket) Inspect() BucketStructure { return b.inspect("root") }

func (b *Bucket) inspect(name string) BucketStructure {
	s := BucketStructure{Name: name}
	c := b.Cursor()
	for ok := c.move(toFirst, nil); ok; ok = c.move(toNext, nil) {
		if c.tag() != tagBucket {
			s.KeyN++
			continue
		}
		s.Children = append(s.Children, b.Bucket(c.bare()).inspect(string(c.bare())))
	}
	return s
}

// BucketStructure is what Inspect returns.
type BucketStructure struct {
	Name     string            `json:"name"`
	KeyN     int               `json:"keyN"` // items, without buckets
	Children []BucketStructure `json:"buckets,omitempty"`
}

// BucketStats describes a bucket as it would lie in the file that Tx.WriteTo writes,
// which is as compact as can be.
type BucketStats struct {
	BranchPageN     int // branches
	BranchOverflowN int // pages that branches take beyond the first
	LeafPageN       int // leaves
	LeafOverflowN   int // pages that leaves take beyond the first

	KeyN  int // items and buckets
	Depth int // levels of pages, those of nested buckets included

	BranchAlloc int // bytes of the pages of branches
	BranchInuse int // of them, in use
	LeafAlloc   int // bytes of the pages of leaves
	LeafInuse   int // of them, in use

	BucketN           int // buckets, this one included
	InlineBucketN     int // of them, those that lie inside their entries
	InlineBucketInuse int // bytes that those take
}

// Add adds what other counts; the depth is the greater of both.
func (s *BucketStats) Add(other BucketStats) {
	s.BranchPageN += other.BranchPageN
	s.BranchOverflowN += other.BranchOverflowN
	s.LeafPageN += other.LeafPageN
	s.LeafOverflowN += other.LeafOverflowN
	s.KeyN += other.KeyN
	s.Depth = max(s.Depth, other.Depth)
	s.BranchAlloc += other.BranchAlloc
	s.BranchInuse += other.BranchInuse
	s.LeafAlloc += other.LeafAlloc
	s.LeafInuse += other.LeafInuse
	s.BucketN += other.BucketN
	s.InlineBucketN += other.InlineBucketN
	s.InlineBucketInuse += other.InlineBucketInuse
}

// Stats reads the whole bucket and describes it.
func (b *Bucket) Stats() BucketStats {
	page := b.tx.db.page
	s := BucketStats{BucketN: 1}
	var nested BucketStats
	leaf := pageFill{page: page, used: pageHeader, pages: &s.LeafPageN, over: &s.LeafOverflowN}
	var first []int // lengths of the keys with which leaves begin
	holdsBuckets := false
	c := b.Cursor()
	for ok := c.move(toFirst, nil); ok; ok = c.move(toNext, nil) {
		s.KeyN++
		n := elementBytes + len(c.bare()) + len(c.content())
		if c.tag() == tagBucket {
			holdsBuckets = true
			in := b.Bucket(c.bare()).Stats()
			n = elementBytes + len(c.bare()) + elementBytes + in.inlineBytes()
			nested.Add(in)
		}
		if leaf.add(n, 1) {
			first = append(first, len(c.bare()))
		}
		s.LeafInuse += n
	}
	if !holdsBuckets && pageHeader+s.LeafInuse <= page/4 && b.parent0() {
		s.LeafPageN, s.LeafOverflowN, s.InlineBucketN, s.InlineBucketInuse, s.LeafInuse, s.Depth = 0, 0, 1, pageHeader+s.LeafInuse, 0, 1
		return s
	}
	leaf.close()
	s.LeafInuse += pageHeader * s.LeafPageN
	s.Depth = 1 + s.branches(first, page) + nested.Depth
	s.LeafAlloc = (s.LeafPageN + s.LeafOverflowN) * page
	s.BranchAlloc = (s.BranchPageN + s.BranchOverflowN) * page
	depth := s.Depth
	s.Add(nested)
	s.Depth = depth
	return s
}

// parent0 says whether the bucket lies in an entry: it is not the root.
func (b *Bucket) parent0() bool { return b.RootPage() != 0 }

// inlineBytes is what lies inside the entry of a bucket with these statistics.
func (s *BucketStats) inlineBytes() int {
	if s.BucketN == 1 && s.InlineBucketN == 1 {
		return s.InlineBucketInuse
	}
	return 0
}

// branches counts the branches above leaves that begin with such keys, and returns
// how many levels there are.
func (s *BucketStats) branches(first []int, page int) (levels int) {
	for len(first) > 1 {
		levels++
		var above []int
		fill := pageFill{page: page, used: pageHeader, pages: &s.BranchPageN, over: &s.BranchOverflowN}
		before := s.BranchPageN
		for _, key := range first {
			if fill.add(elementBytes+key, 2) {
				above = append(above, key)
			}
			s.BranchInuse += elementBytes + key
		}
		fill.close()
		s.BranchInuse += pageHeader * (s.BranchPageN - before)
		first = above
	}
	return levels
}

// pageFill fills pages one after the other.
type pageFill struct {
	page, used, count int
	pages, over       *int
}

// add adds an element of n bytes, to a new page where the one under way has at least
// so many and no room, and says whether it is the first of its page.
func (f *pageFill) add(n, least int) bool {
	if f.count >= least && f.used+n > f.page {
		f.close()
	}
	f.used += n
	f.count++
	return f.count == 1
}

// close ends the page under way.
func (f *pageFill) close() {
	*f.pages++
	*f.over += int(math.Ceil(float64(f.used)/float64(f.page))) - 1
	f.used, f.count = pageHeader, 0
}
