package bbolt

import (
	stderrors "errors"
	"fmt"
	"sync"
	"time"
)

// Batch is Update for callers in many goroutines: several calls that come together
// share one transaction. fn may be called more than once, so it must have no effects
// but those on the transaction. Where one of them fails, or panics, the others are
// done without it, and that one alone, by Update.
func (db *DB) Batch(fn func(*Tx) error) error {
	c := &batchCall{fn: fn, done: make(chan error, 1)}
	db.batchMu.Lock()
	b := db.batch
	if b == nil || len(b.calls) >= db.MaxBatchSize {
		b = &batch{db: db}
		b.timer = time.AfterFunc(db.MaxBatchDelay, b.run)
		db.batch = b
	}
	if b.calls = append(b.calls, c); len(b.calls) >= db.MaxBatchSize {
		go b.run()
	}
	db.batchMu.Unlock()
	err := <-c.done
	if err == errAlone {
		return db.Update(fn)
	}
	return err
}

// errAlone tells a caller to try again alone.
var errAlone = stderrors.New("bbolt: the call is to be done alone")

type batchCall struct {
	fn   func(*Tx) error
	done chan error
}

// batch is calls that wait to be done in one transaction.
type batch struct {
	db    *DB
	timer *time.Timer
	once  sync.Once
	calls []*batchCall
}

// run does the calls, once.
func (b *batch) run() { b.once.Do(b.runAll) }

func (b *batch) runAll() {
	db := b.db
	db.batchMu.Lock()
	b.timer.Stop()
	if db.batch == b {
		db.batch = nil // nobody joins any more
	}
	db.batchMu.Unlock()
	for len(b.calls) > 0 {
		failed := -1
		err := db.Update(func(tx *Tx) error {
			for i, c := range b.calls {
				if err := c.try(tx); err != nil {
					failed = i
					return err
				}
			}
			return nil
		})
		if failed < 0 {
			for _, c := range b.calls {
				c.done <- err
			}
			return
		}
		c := b.calls[failed]
		b.calls = append(b.calls[:failed], b.calls[failed+1:]...)
		c.done <- errAlone
	}
}

// try calls fn; a panic is an error, and happens again when fn is called alone.
func (c *batchCall) try(tx *Tx) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v", p)
		}
	}()
	return c.fn(tx)
}
