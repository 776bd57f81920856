package bbolt

import (
	"bytes"

	"go.etcd.io/bbolt/errors"
	"nvkv/kv"
)

// Cursor moves over the items and nested buckets of a bucket, whose values are nil, in
// the order of their keys. It stands at a key: in a writable Tx, what is put ahead of
// it is met, and when the item under it is deleted, Next goes to the one above.
//
// A cursor that is moved beyond the last item, or before the first, returns nil and
// stays on that item.
type Cursor struct {
	bucket *Bucket
	inner  *kv.Cursor
	place  place
	away   bool   // inner does not stand on key
	key    []byte // with its prefix
	value  []byte // with its tag

	// In a read-only Tx, a cursor that goes on and on reads items ahead.
	nexts int    // calls of Next in a row
	ahead []pair // in room
	room  []pair
	chunk int // how many were read ahead last
}

type pair struct{ key, value []byte }

const (
	aheadFrom  = 4 // calls of Next in a row
	aheadFirst = 16
	aheadMost  = 256
)

// place is where a cursor stands.
type place uint8

const (
	nowhere place = iota
	onKey
	behindLast // after a Seek that found nothing
)

type motion uint8

const (
	toFirst motion = iota
	toLast
	toKey
	toNext
	toPrev
)

// Cursor returns a cursor over the bucket.
func (b *Bucket) Cursor() *Cursor {
	if b.tx.db != nil && b.tx.db.stats != nil {
		b.tx.stats.IncCursorCount(1)
	}
	return &Cursor{bucket: b}
}

// Bucket returns the bucket.
func (c *Cursor) Bucket() *Bucket { return c.bucket }

// First moves to the first item. Like all that move it returns a nil key where there is
// none to stand on.
func (c *Cursor) First() (key []byte, value []byte) { return c.yield(c.move(toFirst, nil)) }

// Last moves to the last item.
func (c *Cursor) Last() (key []byte, value []byte) { return c.yield(c.move(toLast, nil)) }

// Next moves to the item above.
func (c *Cursor) Next() (key []byte, value []byte) { return c.yield(c.move(toNext, nil)) }

// Prev moves to the item below.
func (c *Cursor) Prev() (key []byte, value []byte) { return c.yield(c.move(toPrev, nil)) }

// Seek moves to the first item whose key is not below seek.
func (c *Cursor) Seek(seek []byte) (key []byte, value []byte) { return c.yield(c.move(toKey, seek)) }

// Delete removes the item under the cursor, which must not be a bucket.
func (c *Cursor) Delete() error {
	if err := c.bucket.usable(); err != nil {
		return err
	}
	if c.place != onKey {
		return errors.ErrKeyRequired
	}
	return c.bucket.Delete(c.bare())
}

func (c *Cursor) yield(found bool) (key, value []byte) {
	if !found {
		return nil, nil
	}
	if c.tag() != tagItem {
		return c.bare(), nil
	}
	return c.bare(), c.content()
}

// bare returns the key that the cursor stands on.
func (c *Cursor) bare() []byte { return c.key[prefixBytes:len(c.key):len(c.key)] }

func (c *Cursor) tag() byte { return c.value[0] }

// content returns the value that it stands on, without the tag.
func (c *Cursor) content() []byte { return itemValue(c.value) }

// move moves the cursor and says whether there is something that way.
func (c *Cursor) move(m motion, seek []byte) bool {
	tx := c.bucket.tx
	must(tx)
	if m == toNext && c.place == onKey && !tx.writable && tx.db.mapped {
		if c.nexts++; c.nexts > aheadFrom {
			return c.nextAhead()
		}
	} else {
		c.nexts, c.ahead, c.chunk = 0, nil, aheadFirst/2
	}
	if c.inner == nil {
		c.inner = tx.inner.Cursor()
	}
	ok := c.moveInner(m, seek)
	if err := c.inner.Err(); err != nil {
		panic(&readError{err})
	}
	if ok {
		ok = bytes.HasPrefix(c.inner.Key(), c.bucket.prefix[:])
	}
	if ok {
		c.stand()
		return true
	}
	switch {
	case m == toKey:
		c.place = behindLast
	case m == toFirst || m == toLast:
		c.place = nowhere
	}
	c.away = true
	return false
}

// nextAhead is move to the next item, out of those that were read ahead. Many of them are
// read at a time, for less than the inner cursor takes for each.
func (c *Cursor) nextAhead() bool {
	c.away = true
	if len(c.ahead) == 0 {
		c.readAhead()
	}
	if len(c.ahead) == 0 {
		c.nexts = 0
		return false
	}
	c.key, c.value = c.ahead[0].key, c.ahead[0].value
	c.ahead = c.ahead[1:]
	if len(c.value) == 0 {
		panic(&readError{errDamaged("an item")})
	}
	return true
}

// readAhead reads items behind the one that the cursor stands on.
func (c *Cursor) readAhead() {
	tx := c.bucket.tx
	c.chunk = min(2*c.chunk, aheadMost)
	if cap(c.room) < c.chunk {
		c.room = make([]pair, 0, c.chunk)
	}
	c.ahead = c.room[:0]
	from, end := append(c.key[:len(c.key):len(c.key)], 0), c.bucket.prefix.end()
	for k, v := range tx.inner.All(from, end[:]) {
		if c.ahead = append(c.ahead, pair{k, v}); len(c.ahead) == c.chunk {
			break
		}
	}
	if err := tx.inner.Err(); err != nil {
		panic(&readError{err})
	}
}

// stand notes where the inner cursor is.
func (c *Cursor) stand() {
	c.place, c.away = onKey, false
	c.key, c.value = c.inner.Key(), c.inner.Value()
	if !c.bucket.tx.db.mapped {
		c.key, c.value = bytes.Clone(c.key), bytes.Clone(c.value)
	}
	if len(c.value) == 0 {
		panic(&readError{errDamaged("an item")})
	}
}

// moveInner moves the inner cursor, perhaps out of the bucket.
func (c *Cursor) moveInner(m motion, seek []byte) bool {
	p := &c.bucket.prefix
	switch m {
	case toFirst:
		return c.inner.Seek(p[:])
	case toLast:
		end := p.end()
		return c.inner.SeekLT(end[:])
	case toKey:
		var room keyRoom
		return c.inner.Seek(c.bucket.full(room[:0], seek))
	}
	switch {
	case c.place == nowhere:
		return false
	case c.place == behindLast && m == toNext:
		return false
	case c.place == behindLast:
		return c.moveInner(toLast, nil)
	case m == toPrev && c.away:
		return c.inner.SeekLT(c.key)
	case m == toPrev:
		return c.inner.Prev()
	case c.away:
		return c.inner.Seek(c.key) && (!bytes.Equal(c.inner.Key(), c.key) || c.inner.Next())
	}
	return c.inner.Next()
}
