package kv

import (
	"context"
	"errors"
	"log/slog"

	"nvkv/internal/goroutine"
	"nvkv/kv/internal/locks"
)

// Callbacks run on the goroutine of the call that makes them, and no lock is held, so they may make
// any call. The exception is Close: it waits for calls under way, so in a callback of such a call
// it would wait for itself. nvkv can detect this for certain, because the call continues only after
// the callback has returned.

// callbacks is the set of goroutines that are inside a callback.
type callbacks struct {
	mu locks.Mutex[locks.AtInner]
	in map[uint64]int // depth, by goroutine
}

// begin records that the calling goroutine is inside a callback, until end is called.
func (c *callbacks) begin() (end func()) {
	locks.None()
	id := goroutine.ID()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.in == nil {
		c.in = map[uint64]int{}
	}
	c.in[id]++
	return func() { c.end(id) }
}

func (c *callbacks) end(id uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.in[id]--; c.in[id] == 0 {
		delete(c.in, id)
	}
}

// here says whether the calling goroutine is inside a callback.
func (c *callbacks) here() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.in) > 0 && c.in[goroutine.ID()] > 0
}

// reporter returns Options.Progress in the form in which Compact calls it, or nil.
func (db *DB) reporter() func(Progress) {
	if db.opt.Progress == nil {
		return nil
	}
	return func(p Progress) {
		defer db.called.begin()()
		db.opt.Progress(p)
	}
}

// logHandler is the handler of Options.Logger. Records that its own calls of the DB produce are
// dropped: otherwise logging would never end.
type logHandler struct {
	slog.Handler
	db *DB
}

func (h logHandler) Handle(ctx context.Context, r slog.Record) error {
	if h.db.logging.here() {
		return nil
	}
	defer h.db.called.begin()()
	defer h.db.logging.begin()()
	return h.Handler.Handle(ctx, r)
}

// errNil is the error of a call that got a nil argument.
var errNil = errors.New("nvkv: nil where there must be a function, a reader, a writer or a device")

// orBackground replaces a nil context by one that never ends.
func orBackground(ctx context.Context) context.Context {
	if ctx == nil {
		return context.Background()
	}
	return ctx
}
