package kv

import (
	"bytes"
	"iter"
	"math"

	"nvkv/kv/internal/btree"
	"nvkv/kv/internal/record"
)

// Cursor moves over the keys that a Tx sees, in both directions. A new cursor is on no key: Next
// moves it to the first key, Prev to the last.
//
// Behind the last key, Prev moves back to the last key; before the first key, Next moves to the
// first. In a writable Tx a cursor has a position among the keys, not at an entry: it meets keys
// that are put ahead of it, and not those that are put behind it. If its own key is deleted or put
// again, Key, Value and Expiry keep their results until it moves.
//
// Key and Value are valid until the cursor moves or, on a mapped device, until the Tx ends. The
// caller must not write to them. A Cursor is for one goroutine at a time.
type Cursor struct {
	tx   *Tx
	base btree.Cursor // over the state at the beginning of the Tx
	node *node        // over the changes of the Tx
	// The direction of base and node. Both are at or beyond the cursor's key.
	backward bool
	added    int  // changes.added when node was found
	onBase   bool // base is on the cursor's key
	onNode   bool
	loaded   bool // baseKey and baseValue are those of base
	keysOnly bool // see Tx.Keys

	// Of base, since it was set out in this direction:
	left bytesLeft // that it may still read in runs
	past []byte    // bound of the last range that it passed, or nil

	baseKey, baseValue []byte
	baseExpiry         int64

	place      place
	key, value []byte
	expiry     int64 // Unix nanoseconds; 0: never
	err        error
	closed     bool
	lender     *lender // nil without Options.PoisonSlices
}

// place is the position of a cursor.
type place uint8

const (
	nowhere place = iota
	onKey
	beforeFirst
	behindLast
)

// motion is a kind of move.
type motion uint8

const (
	toFirst motion = iota
	toLast
	toKey
	toBelow
	toNext
	toPrev
)

// Cursor returns a cursor over the keys that the Tx sees. Close it, or end the Tx.
func (tx *Tx) Cursor() *Cursor {
	if tx.over() {
		return &Cursor{tx: tx, closed: true}
	}
	return &Cursor{tx: tx, base: btree.NewCursor(&tx.db.ix, false), lender: tx.lender()}
}

// First moves to the first key. Like all moves it says whether the cursor is on a key afterwards.
// If it is not, Err returns the error that was the cause, or nil.
func (c *Cursor) First() bool { return c.move(toFirst, nil) }

// Last moves to the last key.
func (c *Cursor) Last() bool { return c.move(toLast, nil) }

// Seek moves to the first key that is not below key.
func (c *Cursor) Seek(key []byte) bool { return c.move(toKey, key) }

// SeekLT moves to the last key below key.
func (c *Cursor) SeekLT(key []byte) bool { return c.move(toBelow, key) }

// Next moves to the next key. After an error it does nothing.
func (c *Cursor) Next() bool {
	if c.err != nil {
		return false
	}
	c.base.Warm() // the caller walks on, so prefetch records
	switch c.place {
	case onKey:
		return c.move(toNext, nil)
	case behindLast:
		return false
	}
	return c.move(toFirst, nil)
}

// Prev moves to the previous key. After an error it does nothing.
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

// Valid says whether the cursor is on a key.
func (c *Cursor) Valid() bool { return c.place == onKey && !c.tx.over() }

// Key returns the key that the cursor is on, or nil.
func (c *Cursor) Key() []byte {
	if !c.Valid() {
		return nil
	}
	return c.lend(c.key)
}

// Value returns the value of that key, or nil.
func (c *Cursor) Value() []byte {
	if !c.Valid() {
		return nil
	}
	return c.lend(c.value)
}

// lend returns the slice for the caller: b, or a copy that recall overwrites.
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

// Err returns the error of the last move, or nil.
func (c *Cursor) Err() error { return c.err }

// Close ends the use of the cursor and returns Err. Later moves fail with ErrTxClosed.
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
	c.recall() // only now: key may be a slice that it lent
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

// lookForward moves base and node to the first keys not below key or, if above, to the first keys
// above it. A nil key is below all.
func (c *Cursor) lookForward(key []byte, above bool) error {
	c.start(false)
	equal, err := c.base.Seek(c.tx.root, key)
	if err == nil && above && equal {
		err = c.base.Next()
	}
	if w := c.tx.w; w != nil {
		c.added = w.changes.added
		if c.node, _ = w.changes.find(key); above {
			c.node = w.changes.after(key)
		}
	}
	return err
}

// lookBackward moves base and node to the last keys below key. A nil key is above all.
func (c *Cursor) lookBackward(key []byte) error {
	c.start(true)
	if w := c.tx.w; w != nil {
		c.added = w.changes.added
		if c.node = w.changes.tail; key != nil {
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
	c.left, c.past = c.tx.db.bytesLeft(), nil
}

// step moves base and node off the cursor's key. The state that base walks does not change. For
// node, the transaction may have inserted a change in between.
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

// pass moves base and node off the current key, if they are on it.
func (c *Cursor) pass() error {
	if c.onNode {
		if c.onNode = false; c.backward {
			c.node = c.node.prev
		} else {
			c.node = c.node.next
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

// settle moves the cursor to the next existing key: the nearer one of base and node. If both are
// equal, the change counts.
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

// order says which comes first: base (negative), node (positive), or both, being equal (0). At
// least one of them is valid.
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

// load reads the record of base. It passes records that had expired when the Tx began, and ranges
// that the Tx has deleted.
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

// loadRecord reads the record of base, or passes it if it has expired.
func (c *Cursor) loadRecord() (passed bool, err error) {
	if c.keysOnly {
		return c.loadKey()
	}
	db := c.tx.db
	var rec record.Record
	if err := db.readNamed(c.base.Ref(), &rec); err != nil {
		return false, err
	}
	if rec.Expired(c.tx.at) {
		return true, c.passBase()
	}
	if rec.Spilled() {
		if err := c.left.of(&rec); err != nil {
			return false, err
		}
		if rec.Key, rec.Value, err = db.content(&rec); err != nil {
			return false, err
		}
	}
	c.baseKey, c.baseValue, c.baseExpiry, c.loaded = rec.Key, rec.Value, rec.Expiry, true
	return false, nil
}

// passRange moves base off a range that the Tx has deleted, if it is in one. It reads no record
// there.
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
	if !c.backward && r.open {
		c.base.Leave()
		return true, nil
	}
	// The ranges come in the order of the walk, or the keys of the index are not in order: then base
	// could come back to a range for ever.
	last, bound := c.past, r.value()
	if c.backward {
		bound = r.key
	}
	if order := bytes.Compare(bound, last); last != nil && (order == 0 || order < 0 != c.backward) {
		return false, c.base.Misplaced()
	}
	if c.past = bound; c.backward {
		return true, c.base.SeekBelow(c.tx.root, bound)
	}
	_, err = c.base.Seek(c.tx.root, bound)
	return true, err
}

// All yields the keys of [start, end) in ascending order with their values. A nil end is open, a
// nil start begins at the first key. The slices are valid until the next step or, on a mapped
// device, until the Tx ends. An error ends the iteration: see Err. A writable Tx may put and delete
// keys meanwhile: the iteration meets keys that are put ahead of it, not those put behind it, and
// it skips or repeats no other key.
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
			tx.met(tx.scanRecords(start, end, false, math.MaxInt, yield))
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
			tx.met(tx.scanRecords(start, end, true, math.MaxInt, yield))
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

// prefixEnd returns the first key above all keys that begin with p, or nil if there is none.
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

// scan returns a cursor that prefetches records from the beginning.
func (tx *Tx) scan() *Cursor {
	c := tx.Cursor()
	c.base.Warm()
	return c
}

// met keeps the first error of an iterator.
func (tx *Tx) met(err error) {
	if err != nil {
		tx.err.CompareAndSwap(nil, &err)
	}
}

// Err returns the first error of an iterator, which ended its iteration early, or nil.
func (tx *Tx) Err() error {
	if err := tx.err.Load(); err != nil {
		return *err
	}
	return nil
}
