package bbolt

import (
	"bytes"
	stderrors "errors"

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
	inner  *kv.Cursor // nil until it is needed
	ahead  *ahead     // nil until then
	place  place
	away   bool   // inner does not stand on key
	key    []byte // with its prefix
	value  []byte // with its tag
}

// ahead is what a cursor of a read-only Tx that goes on has read of what follows.
type ahead struct {
	left  []pair // in room
	room  []pair
	chunk int // how many were read last
}

type pair struct{ key, value []byte }

const (
	aheadFirst = 4
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
	if !tx.writable && tx.db.mapped {
		switch {
		case m == toNext && c.place == onKey:
			return c.nextAhead()
		case m < toNext:
			return c.jump(m, seek)
		}
		c.ahead = nil
	}
	if c.inner == nil {
		c.inner, c.away = tx.inner.Cursor(), true
	}
	ok := c.moveInner(m, seek)
	if err := c.inner.Err(); err != nil {
		panic(&readError{err})
	}
	return c.moved(m, ok, c.inner.Key(), c.inner.Value())
}

// jump is a move that does not depend on where the cursor stands. It needs no inner cursor.
func (c *Cursor) jump(m motion, seek []byte) bool {
	p := &c.bucket.prefix
	inner := c.bucket.tx.inner
	var k, v []byte
	var err error
	switch m {
	case toFirst:
		k, v, err = inner.Seek(p[:])
	case toLast:
		end := p.end()
		k, v, err = inner.SeekLT(end[:])
	default:
		var room keyRoom
		k, v, err = inner.Seek(c.bucket.full(room[:0], seek))
	}
	if err != nil && !stderrors.Is(err, kv.ErrNotFound) {
		panic(&readError{err})
	}
	c.ahead = nil
	ok := c.moved(m, err == nil, k, v)
	c.away = true
	return ok
}

// moved notes what a move met: k and v, if ok and if it is in the bucket.
func (c *Cursor) moved(m motion, ok bool, k, v []byte) bool {
	if ok && bytes.HasPrefix(k, c.bucket.prefix[:]) {
		c.stand(k, v)
		return true
	}
	switch m {
	case toKey:
		c.place = behindLast
	case toFirst, toLast:
		c.place = nowhere
	}
	c.away = true
	return false
}

// nextAhead is move to the next item, out of those that were read ahead. Many of them are
// read at a time, for less than an inner cursor takes for each.
func (c *Cursor) nextAhead() bool {
	c.away = true
	if c.ahead == nil {
		c.ahead = &ahead{chunk: aheadFirst / 2}
	}
	a := c.ahead
	if len(a.left) == 0 {
		c.readAhead()
	}
	if len(a.left) == 0 {
		return false
	}
	c.stand(a.left[0].key, a.left[0].value)
	c.away = true
	a.left = a.left[1:]
	return true
}

// readAhead reads items behind the one that the cursor stands on.
func (c *Cursor) readAhead() {
	a, inner := c.ahead, c.bucket.tx.inner
	a.chunk = min(2*a.chunk, aheadMost)
	if cap(a.room) < a.chunk {
		a.room = make([]pair, 0, a.chunk)
	}
	a.left = a.room[:0]
	var room keyRoom
	from, end := append(append(room[:0], c.key...), 0), c.bucket.prefix.end()
	err := inner.Scan(from, end[:], a.chunk, func(k, v []byte) bool {
		a.left = append(a.left, pair{k, v})
		return true
	})
	if err != nil {
		panic(&readError{err})
	}
}

// stand notes on what the cursor stands; the inner cursor does too.
func (c *Cursor) stand(k, v []byte) {
	c.place, c.away = onKey, false
	if c.key, c.value = k, v; !c.bucket.tx.db.mapped {
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
