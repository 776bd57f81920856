package kv

import (
	"context"
	"sync/atomic"

	"nvkv/kv/internal/btree"
)

// closedFlag says that a DB is closed or was never opened.
type closedFlag struct{ opened atomic.Bool }

func (f *closedFlag) Load() bool        { return !f.opened.Load() }
func (f *closedFlag) Store(closed bool) { f.opened.Store(!closed) }

// enter begins a section, in which index pages may be read. The caller calls Leave on the result.
func (db *DB) enter() (*btree.Section, error) {
	s := db.pages.Begin()
	if db.closed.Load() {
		s.Leave()
		return nil, ErrClosed
	}
	return s, nil
}

// enterCall counts a call that may wait for others and that reads index pages only in sections of
// its own. The caller calls leave on the result. Close waits for such calls and for sections.
// enterCall waits for a replay under way.
func (db *DB) enterCall() (*call, error) {
	c, err := db.callIn()
	if err != nil {
		return nil, err
	}
	if err = db.replayed(); err == nil {
		err = db.unreadable()
	}
	if err != nil {
		c.leave()
		return nil, err
	}
	return c, nil
}

// callIn is enterCall that does not wait for a replay.
func (db *DB) callIn() (*call, error) {
	c := (*call)(db.calls.Begin())
	if db.closed.Load() {
		c.leave()
		return nil, ErrClosed
	}
	return c, nil
}

// call is a stripe that counts calls which are no sections.
type call btree.Section

func (c *call) leave() { (*btree.Section)(c).LeaveInside() }

// enterWriter is enterCall for commits. It waits for a checkpoint if writers are too far ahead of
// the last one (R11).
func (db *DB) enterWriter() (*call, error) {
	s, err := db.enterCall()
	if err != nil {
		return nil, err
	}
	err = db.mayWait()
	if err == nil && db.behind.Load() {
		err = db.checkpoint(context.Background())
	}
	if err != nil {
		s.leave()
		return nil, err
	}
	return s, nil
}
