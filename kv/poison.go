package kv

import (
	"bytes"

	"nvkv/kv/internal/locks"
)

// A slice that a transaction returns aliases the store's memory. It does not change while it is
// valid, and often not for some time afterwards, so a program that keeps it too long may not
// notice. With Options.PoisonSlices the program gets a copy, which is overwritten as soon as it is
// no longer valid.

// poison is the byte that overwrites such a copy.
const poison = 0xdb

// lender makes such copies. A Tx has one for its Gets, and one for each of its cursors and
// iterators, whose copies are valid for one step.
type lender struct {
	mu   locks.Mutex[locks.AtInner] // the end of a Tx recalls the copies of its cursors
	lent [][]byte
}

func (l *lender) lend(b []byte) []byte {
	c := bytes.Clone(b)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lent = append(l.lent, c)
	return c
}

// recall overwrites the copies.
func (l *lender) recall() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, b := range l.lent {
		for i := range b {
			b[i] = poison
		}
	}
	l.lent = l.lent[:0]
}

// lender returns a new lender, whose copies are overwritten at the latest when the Tx ends. It
// returns nil without Options.PoisonSlices.
func (tx *Tx) lender() *lender {
	if !tx.db.opt.PoisonSlices {
		return nil
	}
	l := &lender{}
	tx.lending.Lock()
	defer tx.lending.Unlock()
	tx.lenders = append(tx.lenders, l)
	return l
}

// lend returns the slice that Get returns: b or a copy.
func (tx *Tx) lend(b []byte) []byte {
	if !tx.db.opt.PoisonSlices {
		return b
	}
	return tx.lender().lend(b)
}

// recall overwrites all copies.
func (tx *Tx) recall() {
	tx.lending.Lock()
	defer tx.lending.Unlock()
	for _, l := range tx.lenders {
		l.recall()
	}
	tx.lenders = nil
}

// lendTo returns a function that calls yield with copies, each valid until the next call. The
// iterator calls end when it ends.
func (tx *Tx) lendTo(yield func(key, value []byte) bool) (lent func(key, value []byte) bool, end func()) {
	l := tx.lender()
	if l == nil {
		return yield, func() {}
	}
	return func(key, value []byte) bool {
		l.recall()
		return yield(l.lend(key), l.lend(value))
	}, l.recall
}
