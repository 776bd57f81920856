package kv

import (
	"bytes"
	"sync"
)

// A slice that a transaction gives out lies in what the store reads: it stays as
// it is for as long as it is valid, and for a while longer, so that a program
// which keeps it finds out late. With Options.PoisonSlices it gets a copy, which is
// spoilt as soon as it is not valid any more.

// poison is what such a copy is overwritten with.
const poison = 0xdb

// lender gives out copies. A Tx has one, and so has each of its cursors and
// iterators, whose copies are good for one step.
type lender struct {
	mu   sync.Mutex // the end of a Tx recalls what its cursors lend
	lent [][]byte
}

func (l *lender) lend(b []byte) []byte {
	c := bytes.Clone(b)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lent = append(l.lent, c)
	return c
}

// recall spoils what was lent.
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

// lender returns a new one, whose copies are spoilt when the Tx ends at the
// latest; nil if nothing is to be.
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

// lend returns what Get gives out.
func (tx *Tx) lend(b []byte) []byte {
	if !tx.db.opt.PoisonSlices {
		return b
	}
	return tx.lender().lend(b)
}

// recall spoils all that was lent.
func (tx *Tx) recall() {
	tx.lending.Lock()
	defer tx.lending.Unlock()
	for _, l := range tx.lenders {
		l.recall()
	}
	tx.lenders = nil
}

// lending makes yield get copies, each good until the next one; the iterator
// calls end when it is through.
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
