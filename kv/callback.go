package kv

import (
	"context"
	"errors"
	"log/slog"
	"sync"

	"nvkv/internal/goroutine"
)

// Callbacks run on the goroutine of the call that makes them, with no lock held, so
// they may use the DB as they like. Close alone waits for calls under way: in a callback
// of one it would wait for itself. That can be told for certain, because the call goes on
// only when the callback has returned.

// callbacks knows which goroutines are inside a callback of a call.
type callbacks struct {
	mu sync.Mutex
	in map[uint64]int // by goroutine, how deep
}

// begin notes that the calling goroutine is inside a callback until end.
func (c *callbacks) begin() (end func()) {
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

// here says whether the calling goroutine is inside one.
func (c *callbacks) here() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.in) > 0 && c.in[goroutine.ID()] > 0
}

// reporter is Options.Progress as Compact calls it.
func (db *DB) reporter() func(Progress) {
	if db.opt.Progress == nil {
		return nil
	}
	return func(p Progress) {
		defer db.called.begin()()
		db.opt.Progress(p)
	}
}

// logHandler is the handler of Options.Logger. What its own calls of the DB have to say
// is not logged: they would never end.
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

// errNil is what a call answers that was given nothing to call, write to or read from.
var errNil = errors.New("nvkv: nil where there must be a function, a reader, a writer or a device")

// orBackground takes a nil context for one that never ends.
func orBackground(ctx context.Context) context.Context {
	if ctx == nil {
		return context.Background()
	}
	return ctx
}
