package kv

import (
	"bytes"
	"iter"
	"math"

	"nvkv/kv/internal/btree"
	"nvkv/kv/internal/record"
)

// Cursor moves over the keys that a Tx sees, in both directions. A new one
// stands nowhere: Next takes it to the first key, Prev to the last.
//
// Beyond the last key Prev leads back to it, before the first Next likewise.
// In a writable Tx a cursor stands at a key, not at an entry: what is put ahead
// of it is met and what is put behind it is not, and when its own key is
// deleted or put again, Key, Value and Expiry stay what they were until it moves.
//
// Key and Value are valid until the cursor moves, where the device is mapped
// until the Tx ends, and must not be written. A Cursor is for one goroutine.
type Cursor struct {
	tx   *Tx
	base btree.Cursor // over the state that the Tx began with
	node *node        // over what the Tx has changed
	// Where base and node look: both stand at or beyond the cursor's key.
	backward bool
	added    int  // changes when node was found
	onBase   bool // base stands on the cursor's key
	onNode   bool
	loaded   bool // baseKey and baseValue are what base stands on

	baseKey, baseValue []byte
	baseExpiry         int64

	place      place
	key, value []byte
	expiry     int64 // Unix nanoseconds, 0: never
	err        error
	closed     bool
	lender     *lender // nil unless slices are spoilt
}

// place is where a cursor stands.
type place uint8

const (
	nowhere place = iota
	onKey
	beforeFirst
	behindLast
)

// motion is a way to move.
type motion uint8

const (
	toFirst motion = iota
	toLast
	toKey
	toBelow
	toNext
	toPrev
)

// Cursor returns a cursor over what the Tx sees. Close it, or end the Tx.
func (tx *Tx) Cursor() *Cursor {
	if tx.over() {
		return &Cursor{tx: tx, closed: true}
	}
	return &Cursor{tx: tx, base: btree.NewCursor(&tx.db.ix, false), lender: tx.lender()}
}

// First moves to the first key. Like all that move it says whether there is
// one to stand on; if not, Err says whether an error is the reason.
func (c *Cursor) First() bool { return c.move(toFirst, nil) }

// Last moves to the last key.
func (c *Cursor) Last() bool { return c.move(toLast, nil) }

// Seek moves to the first key that is not below key.
func (c *Cursor) Seek(key []byte) bool { return c.move(toKey, key) }

// SeekLT moves to the last key below key.
func (c *Cursor) SeekLT(key []byte) bool { return c.move(toBelow, key) }

// Next moves to the key above. After an error it stays where it is.
func (c *Cursor) Next() bool {
	if c.err != nil {
		return false
	}
	c.base.Warm() // whoever walks on wants the records ahead
	switch c.place {
	case onKey:
		return c.move(toNext, nil)
	case behindLast:
		return false
	}
	return c.move(toFirst, nil)
}

// Prev moves to the key below. After an error it stays where it is.
func (c *Cursor) Prev() bool {
	if c.err != nil {
		return false
	}
	c.base.Warm()
	switch c.place {
	case onKey:
		return c.move(toPrev, nil)
	case beforeFirst:
		return false
	}
	return c.move(toLast, nil)
}

// Valid says whether the cursor stands on a key.
func (c *Cursor) Valid() bool { return c.place == onKey && !c.tx.over() }

// Key returns the key that the cursor stands on, nil if there is none.
func (c *Cursor) Key() []byte {
	if !c.Valid() {
		return nil
	}
	return c.lend(c.key)
}

// Value returns the value of that key, nil if there is none.
func (c *Cursor) Value() []byte {
	if !c.Valid() {
		return nil
	}
	return c.lend(c.value)
}

// lend returns what the cursor gives out; recall spoils it, if that is wanted.
func (c *Cursor) lend(b []byte) []byte {
	if c.lender == nil {
		return b
	}
	return c.lender.lend(b)
}

func (c *Cursor) recall() {
	if c.lender != nil {
		c.lender.recall()
	}
}

// Err returns the error that the last move met.
func (c *Cursor) Err() error { return c.err }

// Close ends the use of the cursor and returns Err. Afterwards it stands
// nowhere and every move fails with ErrTxClosed.
func (c *Cursor) Close() error {
	err := c.err
	if !c.closed {
		c.recall()
		*c = Cursor{tx: c.tx, closed: true}
	}
	return err
}

func (c *Cursor) move(m motion, key []byte) bool {
	if c.err = c.tryMove(m, key); c.err != nil {
		c.place, c.key, c.value = nowhere, nil, nil
	}
	c.recall() // not before: key may be what it lent
	return c.place == onKey
}

func (c *Cursor) tryMove(m motion, key []byte) (err error) {
	if c.closed || c.tx == nil {
		return ErrTxClosed
	}
	tx := c.tx
	s, err := tx.enter()
	if err != nil {
		return err
	}
	defer tx.leave(s)
	defer tx.db.guarded("scan", panicOnFault(true), &err)
	c.base.Renew()
	switch m {
	case toFirst:
		err = c.lookForward(nil, false)
	case toKey:
		err = c.lookForward(key, false)
	case toLast:
		err = c.lookBackward(nil)
	case toBelow:
		if len(key) == 0 {
			c.place = beforeFirst
			return nil
		}
		err = c.lookBackward(key)
	default:
		err = c.step(m == toPrev)
	}
	if err != nil {
		return err
	}
	return c.settle()
}

// lookForward makes base and node stand on the first keys from key on, or
// above it. A nil key is below all.
func (c *Cursor) lookForward(key []byte, above bool) error {
	c.start(false)
	equal, err := c.base.Seek(c.tx.root, key)
	if err == nil && above && equal {
		err = c.base.Next()
	}
	if w := c.tx.w; w != nil {
		c.added = w.changes.added
		if c.node = w.changes.find(key, nil); above {
			c.node = w.changes.after(key)
		}
	}
	return err
}

// lookBackward makes base and node stand on the last keys below key. A nil key
// is above all.
func (c *Cursor) lookBackward(key []byte) error {
	c.start(true)
	if w := c.tx.w; w != nil {
		c.added = w.changes.added
		if c.node = w.changes.last(); key != nil {
			c.node = w.changes.below(key)
		}
	}
	if key == nil {
		return c.base.Last(c.tx.root)
	}
	return c.base.SeekBelow(c.tx.root, key)
}

func (c *Cursor) start(backward bool) {
	c.backward, c.onBase, c.onNode, c.loaded = backward, false, false, false
}

// step moves base and node off the cursor's key. Base stands still otherwise,
// because the state that it walks does; for node the transaction may have put
// something in between.
func (c *Cursor) step(backward bool) error {
	if backward != c.backward {
		if backward {
			return c.lookBackward(c.key)
		}
		return c.lookForward(c.key, true)
	}
	if w := c.tx.w; w != nil && c.added != w.changes.added {
		c.added, c.onNode = w.changes.added, false
		if backward {
			c.node = w.changes.below(c.key)
		} else {
			c.node = w.changes.after(c.key)
		}
	}
	return c.pass()
}

// pass moves whatever stands on the current key off it.
func (c *Cursor) pass() error {
	if c.onNode {
		if c.onNode = false; c.backward {
			c.node = c.node.prev
		} else {
			c.node = c.node.link(0)
		}
	}
	if c.onBase {
		return c.passBase()
	}
	return nil
}

func (c *Cursor) passBase() error {
	c.onBase, c.loaded = false, false
	if c.backward {
		return c.base.Prev()
	}
	return c.base.Next()
}

// settle stands on the next key that is there: the nearer one of base and
// node, and of two equal ones the change.
func (c *Cursor) settle() error {
	for {
		if err := c.load(); err != nil {
			return err
		}
		if !c.base.Valid() && c.node == nil {
			if c.place = behindLast; c.backward {
				c.place = beforeFirst
			}
			c.key, c.value = nil, nil
			return nil
		}
		order := c.order()
		c.onBase, c.onNode = order <= 0, order >= 0
		switch {
		case order < 0:
			c.place, c.key, c.value, c.expiry = onKey, c.baseKey, c.baseValue, c.baseExpiry
			return nil
		case c.node.kind != record.KindDelete:
			c.place, c.key, c.value, c.expiry = onKey, c.node.key, c.node.value(), c.node.expiry
			return nil
		}
		if err := c.pass(); err != nil {
			return err
		}
	}
}

// order says which comes first on the way: base (below 0), node (above 0), or
// both, being equal. One of them is there.
func (c *Cursor) order() int {
	switch {
	case c.node == nil:
		return -1
	case !c.base.Valid():
		return 1
	case c.backward:
		return bytes.Compare(c.node.key, c.baseKey)
	}
	return bytes.Compare(c.baseKey, c.node.key)
}

// load reads the record that base stands on, and passes those that had expired
// when the Tx began, and the ranges that it deleted since.
func (c *Cursor) load() error {
	for c.base.Valid() {
		passed, err := c.passRange()
		if !passed && err == nil && !c.loaded {
			passed, err = c.loadRecord()
		}
		if !passed || err != nil {
			return err
		}
	}
	return nil
}

// loadRecord reads the record that base stands on, or passes it if it has expired.
func (c *Cursor) loadRecord() (passed bool, err error) {
	db := c.tx.db
	var rec record.Record
	if err := db.readNamed(c.base.Ref(), &rec); err != nil {
		return false, err
	}
	if rec.Expired(c.tx.at) {
		return true, c.passBase()
	}
	c.baseKey, c.baseValue, c.baseExpiry, c.loaded = rec.Key, rec.Value, rec.Expiry, true
	if rec.Spilled() {
		c.baseKey, c.baseValue, err = db.content(&rec)
	}
	return false, err
}

// passRange moves base off a range that the Tx deleted, if it stands in one. It reads no
// record there.
func (c *Cursor) passRange() (passed bool, err error) {
	w := c.tx.w
	if w == nil || w.changes.ranges.nodes == 0 {
		return false, nil
	}
	key := c.baseKey
	if !c.loaded {
		if key, err = c.base.Key(); err != nil {
			return false, err
		}
	}
	r := w.changes.rangeAt(key)
	if r == nil {
		return false, nil
	}
	c.onBase, c.loaded = false, false
	switch {
	case c.backward:
		err = c.base.SeekBelow(c.tx.root, r.key)
	case r.open:
		c.base.Leave()
	default:
		_, err = c.base.Seek(c.tx.root, r.value())
	}
	if err != nil || !c.base.Valid() {
		return true, err
	}
	// What is met behind the range lies behind key, or the index lies about its keys.
	next, err := c.base.Key()
	if err == nil && bytes.Compare(next, key) > 0 == c.backward {
		err = c.base.Misplaced()
	}
	return true, err
}

// All yields the keys of [start, end) in ascending order with their values. A
// nil end is open, a nil start begins at the first key. What it yields is valid
// until the next step, where the device is mapped until the Tx ends. An error
// ends the iteration: see Err. A writable Tx may put and delete meanwhile: what
// it puts ahead is met, behind is not, and no other key is skipped or repeated.
func (tx *Tx) All(start, end []byte) iter.Seq2[[]byte, []byte] {
	start, end = bytes.Clone(start), bytes.Clone(end)
	return func(yield func(key, value []byte) bool) {
		if tx.over() {
			tx.met(ErrTxClosed)
			return
		}
		if emptyRange(start, end) {
			return
		}
		yield, recall := tx.lendTo(yield)
		defer recall()
		if tx.w == nil {
			tx.scanRecords(start, end, false, math.MaxInt, yield)
			return
		}
		c := tx.scan()
		for ok := c.Seek(start); ok && inside(c.key, end) && yield(c.key, c.value); {
			ok = c.Next()
		}
		tx.met(c.err)
	}
}

// Backward yields the keys of [start, end) in descending order; see All.
func (tx *Tx) Backward(start, end []byte) iter.Seq2[[]byte, []byte] {
	start, end = bytes.Clone(start), bytes.Clone(end)
	return func(yield func(key, value []byte) bool) {
		if tx.over() {
			tx.met(ErrTxClosed)
			return
		}
		if emptyRange(start, end) {
			return
		}
		yield, recall := tx.lendTo(yield)
		defer recall()
		if tx.w == nil {
			tx.scanRecords(start, end, true, math.MaxInt, yield)
			return
		}
		c := tx.scan()
		ok := false
		if end == nil {
			ok = c.Last()
		} else {
			ok = c.SeekLT(end)
		}
		for ok && bytes.Compare(c.key, start) >= 0 && yield(c.key, c.value) {
			ok = c.Prev()
		}
		tx.met(c.err)
	}
}

// Prefix yields the keys that begin with p in ascending order; see All.
func (tx *Tx) Prefix(p []byte) iter.Seq2[[]byte, []byte] {
	return tx.All(p, prefixEnd(p))
}

// prefixEnd returns the first key behind all that begin with p, nil if none is.
func prefixEnd(p []byte) []byte {
	for i := len(p) - 1; i >= 0; i-- {
		if p[i] != 0xff {
			end := bytes.Clone(p[:i+1])
			end[i]++
			return end
		}
	}
	return nil
}

// scan returns a cursor that asks for records ahead from the beginning.
func (tx *Tx) scan() *Cursor {
	c := tx.Cursor()
	c.base.Warm()
	return c
}

// met keeps the first error that an iterator met.
func (tx *Tx) met(err error) {
	if err != nil {
		tx.err.CompareAndSwap(nil, &err)
	}
}

// Err returns the first error that an iterator met: iteration then ended early.
func (tx *Tx) Err() error {
	if err := tx.err.Load(); err != nil {
		return *err
	}
	return nil
}
