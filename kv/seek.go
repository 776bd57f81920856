package kv

import (
	"math"

	"nvkv/kv/internal/btree"
)

// Seek returns the first key that is not below key, with its value, or ErrNotFound. The slices are
// valid until the Tx ends. Seek costs what Get costs; a Cursor that is moved once costs more,
// because it keeps its path.
func (tx *Tx) Seek(key []byte) (k, value []byte, err error) { return tx.seek(toKey, key) }

// SeekLT returns the last key below key; see Seek. No key is below the empty one.
func (tx *Tx) SeekLT(key []byte) (k, value []byte, err error) { return tx.seek(toBelow, key) }

// seek moves a cursor that does not leave the stack.
func (tx *Tx) seek(m motion, key []byte) (k, value []byte, err error) {
	if tx.over() {
		return nil, nil, ErrTxClosed
	}
	c := Cursor{tx: tx, base: btree.NewCursor(&tx.db.ix, false)}
	switch err := c.tryMove(m, key); {
	case err != nil:
		return nil, nil, err
	case c.place != onKey:
		return nil, nil, ErrNotFound
	}
	return tx.lend(c.key), tx.lend(c.value), nil
}

// Scan calls fn with up to n records of [start, end) in ascending order, until fn returns false. A
// nil start begins at the first key, a nil end is open, and a negative n means no limit. The slices
// are valid as those of All are, and fn may do what the body of a loop over All may. Nobody may
// change start and end meanwhile.
func (tx *Tx) Scan(start, end []byte, n int, fn func(key, value []byte) bool) error {
	switch {
	case tx.over():
		return ErrTxClosed
	case n == 0 || emptyRange(start, end):
		return nil
	case fn == nil:
		return errNil
	case n < 0:
		n = math.MaxInt
	}
	fn, recall := tx.lendTo(fn)
	defer recall()
	if tx.w == nil {
		return tx.scanRecords(start, end, false, n, fn)
	}
	c := tx.scan()
	for ok := c.Seek(start); ok && inside(c.key, end) && fn(c.key, c.value) && n > 1; n-- {
		ok = c.Next()
	}
	return c.err
}
