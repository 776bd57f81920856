package bbolt

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"fmt"

	"nvkv/kv"
)

// CheckOption changes what Tx.Check does.
type CheckOption func(options *checkConfig)

type checkConfig struct {
	stringer KVStringer
}

// WithKVStringer has names of buckets in messages written by s.
func WithKVStringer(kvStringer KVStringer) CheckOption {
	return func(c *checkConfig) { c.stringer = kvStringer }
}

// WithPageId is accepted and changes nothing: there are no pages to begin at.
func WithPageId(pageId uint64) CheckOption { return func(*checkConfig) {} }

// KVStringer writes keys and values for people.
type KVStringer interface {
	KeyToString([]byte) string
	ValueToString([]byte) string
}

// HexKVStringer returns a KVStringer that writes hexadecimal digits.
func HexKVStringer() KVStringer { return hexStringer{} }

type hexStringer struct{}

func (hexStringer) KeyToString(key []byte) string     { return hex.EncodeToString(key) }
func (hexStringer) ValueToString(value []byte) string { return hex.EncodeToString(value) }

// Check looks at everything: that each bucket is reached once and its books say what it
// holds, that no item is left of a bucket that is not there, and each structure and
// checksum of the store. It sends what is wrong, and closes the channel at its end; the
// Tx must not end before that.
func (tx *Tx) Check(options ...CheckOption) <-chan error {
	c := &checker{tx: tx, out: make(chan error), seen: map[uint64]bool{0: true}}
	c.stringer = HexKVStringer()
	for _, o := range options {
		o(&c.checkConfig)
	}
	go func() {
		defer close(c.out)
		if err := c.all(); err != nil {
			c.out <- err
		}
	}()
	return c.out
}

// checker is a Check under way.
type checker struct {
	checkConfig
	tx    *Tx
	out   chan error
	seen  map[uint64]bool // buckets that were reached, or are known to be garbage
	found usage
	apart uint64

	recount bool // set the books of buckets, and keep only one fault
}

func (c *checker) wrong(format string, args ...any) {
	err := fmt.Errorf(format, args...)
	if !c.recount {
		c.out <- err
		return
	}
	select {
	case c.out <- err:
	default:
	}
}

func (c *checker) all() (err error) {
	defer caught(&err)
	tx := c.tx
	m := tx.known()
	if err := c.bucket(&tx.root, nil, "the root"); err != nil {
		return err
	}
	if err := c.garbage(); err != nil {
		return err
	}
	if marked, err := tx.inner.Has(booksKey); err != nil {
		return err
	} else if !marked {
		c.wrong("the books are to be counted anew: the medium was full")
	}
	if !tx.writable && (c.found != m.all || c.apart != m.apart) {
		c.wrong("the books say %+v and %d buckets apart, found %+v and %d", m.all, m.apart, c.found, c.apart)
	}
	if err := c.orphans(); err != nil {
		return err
	}
	return tx.db.store.Check(context.Background(), func(issue kv.CheckIssue) { c.wrong("%v", issue) })
}

// bucket checks a bucket and all in it.
func (c *checker) bucket(b *Bucket, says *bucketEntry, name string) error {
	var use usage
	l := c.tx.known().layout()
	cur := b.Cursor()
	for ok := cur.move(toFirst, nil); ok; ok = cur.move(toNext, nil) {
		switch key := cur.bare(); cur.tag() {
		case tagItem:
			use.item(l, len(key), len(cur.content()), comes)
		case tagBucket:
			use.bucket(l, len(key), comes)
			if err := c.nested(b, key, cur.value); err != nil {
				return err
			}
		default:
			c.wrong("%s: key %s: a value with tag %d", name, c.stringer.KeyToString(key), cur.tag())
		}
	}
	c.found.add(&use, comes)
	if says == nil {
		return nil
	}
	if use.apart(l) {
		c.apart++
	}
	if c.recount {
		b.use = use
	}
	if !c.tx.writable && use != says.use {
		c.wrong("%s: its books say %+v, found %+v", name, says.use, use)
	}
	return nil
}

func (c *checker) nested(in *Bucket, key, value []byte) error {
	name := "bucket " + c.stringer.KeyToString(key)
	e, ok := decodeBucket(value)
	switch {
	case !ok:
		c.wrong("%s: its entry is damaged", name)
		return nil
	case c.seen[e.id()]:
		c.wrong("%s: number %d is that of another bucket too", name, e.id())
		return nil
	case e.id() >= c.tx.known().next:
		c.wrong("%s: number %d is to be given to another bucket, from %d on", name, e.id(), c.tx.known().next)
	}
	c.seen[e.id()] = true
	return c.bucket(in.Bucket(key), &e, name)
}

// garbage notes the buckets that are deleted and not freed yet. What lies in them is
// reached by nobody.
func (c *checker) garbage() error {
	tx := c.tx.inner
	for k, v := range tx.Prefix([]byte{spaceGarbage}) {
		id := bucketOf(k)
		if c.seen[id] {
			c.wrong("bucket %d is deleted and there", id)
		}
		c.seen[id] = true
		if len(v) == 1 && v[0] == holdsBuckets {
			c.buried(id)
		}
	}
	return tx.Err()
}

// buried notes the buckets inside a deleted one.
func (c *checker) buried(id uint64) {
	p := prefixOf(spaceEntry, id)
	for _, v := range c.tx.inner.Prefix(p[:]) {
		if e, ok := decodeBucket(v); ok && !c.seen[e.id()] {
			c.seen[e.id()] = true
			c.found.add(&e.use, comes)
			if e.use.apart(c.tx.known().layout()) {
				c.apart++
			}
			c.buried(e.id())
		}
	}
}

// orphans looks for items of buckets that are not there.
func (c *checker) orphans() error {
	cur := c.tx.inner.Cursor()
	defer cur.Close()
	at := []byte{spaceEntry}
	for cur.Seek(at) && len(cur.Key()) >= prefixBytes && cur.Key()[0] == spaceEntry {
		id := bucketOf(cur.Key())
		if !c.seen[id] {
			c.wrong("items of bucket %d, which is not there", id)
		}
		end := prefixOf(spaceEntry, id).end()
		at = end[:]
	}
	return cur.Err()
}

// bucketOf returns the bucket of a key.
func bucketOf(key []byte) uint64 { return binary.BigEndian.Uint64(key[1:]) }
