package kv

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"nvkv/kv/internal/locks"
)

func (s *session) step() error {
	var err error
	switch r := s.c.rng.IntN(100); {
	case r < 50:
		err = s.write(s.c.changes(1), false)
	case r < 60:
		err = s.conditional(s.c.change())
	case r < 72:
		err = s.write(s.c.changes(2+s.c.rng.IntN(4)), false)
	case r < 78:
		err = s.write(s.c.withRanges(s.c.rng.IntN(4)), false)
	case r < 88:
		err = s.write(s.c.changes(2+s.c.rng.IntN(3)), true)
	case r < 90 && s.relaxed():
		err = s.sync()
	case r < 90:
		err = s.failedFence()
	case s.c.quiet:
		err = s.write(s.c.changes(1), false)
	case r < 96:
		if s.relaxed() { // so that no fence is inside the freeze
			err = s.sync()
		}
		s.m.Log("checkpoint")
		// A writer comes between freeze and flip. One that finds the store full would wait for the
		// checkpoint that waits for it.
		if s.c.limit == 0 && s.c.opt.renewAt == 0 && s.c.rng.IntN(2) == 0 {
			s.meanwhile(func() error { return s.write(s.c.changes(1+s.c.rng.IntN(3)), false) })
		}
		err = firstErr(err, guarded(func() error { return s.db.Checkpoint(context.Background()) }))
		s.m.Hook(nil)
	default:
		err = s.reopen(s.c.rng.IntN(2) == 0)
	}
	if err = firstErr(s.failure(), err); err != nil {
		return err
	}
	if s.c.rng.IntN(4) == 0 {
		s.crash(1)
	}
	return s.failure()
}

// failure returns the first failure that a crash found.
func (s *session) failure() error { return firstErr(s.m.Err(), s.err) }

// meanwhile calls f at the next fence.
func (s *session) meanwhile(f func() error) {
	s.m.Hook(func(fence bool) {
		if fence && f != nil {
			do := f
			f = nil
			locks.Apart(func() { s.err = firstErr(s.err, do()) }) // as another goroutine
		}
	})
}

func firstErr(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// write makes changes as one put or delete, as a batch, or as a group of callers that wait for the
// turn together.
func (s *session) write(changes []change, group bool) error {
	plain := len(changes) == 0 || changes[0].when == nil
	return s.writeAs(changes, group, s.c.mixed && !group && plain && s.c.rng.IntN(2) == 0)
}

// writeAs is write. If other is set, a Tx makes the changes with a durability other than the
// store's.
func (s *session) writeAs(changes []change, group, other bool) error {
	s.m.Log("%v group=%v", changes, group)
	s.next = s.acked.with(changes)
	if group && s.c.limit > 0 {
		s.each = changes
	}
	durable := (s.c.opt.Durability == Sync) != other
	err := guarded(func() error {
		if other {
			return commitOther(s.db, changes)
		}
		return commitChanges(s.db, changes, group)
	})
	s.each = nil
	if s.c.limit > 0 && errors.Is(err, ErrFull) && !errors.Is(err, ErrFailed) {
		s.c.full++
		if group { // some of its callers may have succeeded
			s.acked, err = s.decideEach(s.db, changes)
		} else {
			err = holds(s.db, s.acked)
		}
		s.next = nil
		return err
	}
	if err != nil {
		return fmt.Errorf("write: %w", err)
	}
	switch {
	case s.relaxed() && !durable:
		s.past = append(s.past, s.acked)
	case s.c.mixed && len(changes) > 0 && changes[0].holds(s.acked): // else it commits nothing
		s.past = nil
	}
	s.acked, s.next = s.next, nil
	return nil
}

// relaxed says whether a crash may lose acknowledged changes.
func (s *session) relaxed() bool { return s.c.opt.Durability == Relaxed || s.c.mixed }

// sync makes the acknowledged changes durable.
func (s *session) sync() error {
	s.m.Log("sync")
	err := guarded(s.db.Sync)
	if err == nil {
		s.past = nil
	}
	return err
}

// decideEach returns the contents of a store after a group, each of whose changes was made or not.
func (s *session) decideEach(db *DB, changes []change) (model, error) {
	got, err := contents(db)
	if err != nil {
		return nil, err
	}
	want := model{}
	for k, v := range s.acked {
		want[k] = v
	}
	for _, ch := range changes {
		v, have := got[ch.key]
		if have == (ch.value != nil) && (!have || v == *ch.value) {
			want = want.with([]change{ch})
		}
	}
	if d := difference(got, want); d != "" {
		return nil, fmt.Errorf("after a group that found the store full: %s", d)
	}
	return got, nil
}

func guarded(f func() error) (err error) {
	defer rescue(&err)
	return f()
}

func commitChanges(db *DB, changes []change, group bool) error {
	switch {
	case group:
		return commitGroup(db, changes)
	case len(changes) == 1 && changes[0].when != nil:
		return changes[0].callIf(db)
	case len(changes) == 1 && changes[0].upTo != nil:
		return db.DeleteRange([]byte(changes[0].key), []byte(*changes[0].upTo))
	case len(changes) == 1 && changes[0].value == nil:
		return db.Delete([]byte(changes[0].key))
	case len(changes) == 1:
		return db.Put([]byte(changes[0].key), []byte(*changes[0].value))
	}
	return db.Write(batchOf(changes))
}

// commitOther makes changes by a Tx with a durability other than the store's.
func commitOther(db *DB, changes []change) error {
	return db.Update(func(tx *Tx) error {
		b := batchOf(changes)
		return firstErr(tx.SetDurability(Sync+Relaxed-db.opt.Durability), b.replayInto(tx))
	})
}

func batchOf(changes []change) *Batch {
	b := &Batch{}
	for _, ch := range changes {
		switch {
		case ch.upTo != nil:
			b.DeleteRange([]byte(ch.key), []byte(*ch.upTo))
		case ch.value == nil:
			b.Delete([]byte(ch.key))
		default:
			b.Put([]byte(ch.key), []byte(*ch.value))
		}
	}
	return b
}

// commitGroup commits each change as an operation of a caller of its own. The turn combines them.
func commitGroup(db *DB, changes []change) error {
	callers := make([][]change, len(changes))
	for i := range changes {
		callers[i] = changes[i : i+1]
	}
	return commitCallers(db, callers)
}

// commitCallers is commitGroup with batches.
func commitCallers(db *DB, callers [][]change) error {
	ops := make([]*op, len(callers))
	for i, changes := range callers {
		o := &op{wake: make(chan struct{}, 1)}
		es, err := batchOf(changes).entries(nil, time.Now().UnixNano())
		if err != nil {
			return err
		}
		o.entries = es
		for j := range o.entries {
			if err := db.prepare(&o.entries[j]); err != nil {
				return err
			}
		}
		ops[i] = o
	}
	ops[0].group = ops[1:]
	db.turn.hold()
	db.lockReaders()
	db.serve(ops[0], true)
	db.unlockReaders()
	db.turn.give()
	var err error
	for _, o := range ops {
		err = firstErr(err, o.err)
	}
	return err
}

// reopen ends this opening and begins another one, after Close or without it, like a killed process
// on a machine that lives.
func (s *session) reopen(cleanly bool) error {
	s.m.Log("reopen cleanly=%v", cleanly)
	err := guarded(func() error {
		if cleanly {
			return s.db.Close()
		}
		abandon(s.db)
		return nil
	})
	if err = firstErr(s.failure(), err); err != nil {
		return fmt.Errorf("close: %w", err)
	}
	if err := s.open(); err != nil {
		return fmt.Errorf("open: %w", err)
	}
	if s.relaxed() && !cleanly {
		s.acked, err = s.decide(s.db)
		s.past = nil
		return err
	}
	s.past = nil
	return holds(s.db, s.acked)
}

// failedFence makes the next write fail at its fence, and opens the store again on the living
// machine. The writes of the dead process are visible, and will be lost at the next power failure
// unless they are written again (R12, R15).
func (s *session) failedFence() error {
	changes := s.c.changes(1 + s.c.rng.IntN(3))
	s.m.Log("%v, its fence fails", changes)
	s.next = s.acked.with(changes)
	s.dev.FailFence(1, fmt.Errorf("injected"))
	err := guarded(func() error { return commitChanges(s.db, changes, false) })
	s.dev.FailFence(0, nil)
	if s.failure() != nil {
		return s.failure()
	}
	if err == nil { // deletes of absent keys fence nothing
		s.acked, s.next = s.next, nil
		return nil
	}
	// If a write were accepted from here on, it would have to survive as well.
	s.m.Watch(false)
	for range 2 {
		more := s.c.changes(1)
		if guarded(func() error { return commitChanges(s.db, more, false) }) == nil {
			s.acked, s.next = s.acked.with(more), s.next.with(more)
		}
	}
	s.crash(s.c.images[min(s.m.Depth(), len(s.c.images)-1)])
	s.m.Watch(true)
	abandon(s.db)
	if err := s.open(); err != nil {
		return fmt.Errorf("open after a failed fence: %w", err)
	}
	if s.acked, err = s.decide(s.db); err != nil {
		return err
	}
	s.next = nil
	return nil
}

// crash opens up to limit images that a power failure could leave now.
func (s *session) crash(limit int) {
	s.m.Crash(limit)
	s.err = firstErr(s.err, s.m.Err())
	s.c.opened = s.m.Report().States
}

// decide returns which of the legal states a store has.
func (s *session) decide(db *DB) (model, error) {
	if s.each != nil {
		got, err := s.decideEach(db, s.each)
		return got, firstErr(err, clean(db))
	}
	got, err := contents(db)
	if err != nil {
		return nil, err
	}
	for _, m := range s.past {
		if difference(got, m) == "" {
			return got, clean(db)
		}
	}
	if diff := difference(got, s.acked); diff != "" {
		if s.next == nil {
			return nil, fmt.Errorf("not what was acknowledged: %s", diff)
		}
		if d := difference(got, s.next); d != "" {
			return nil, fmt.Errorf("neither what was acknowledged (%s) nor that and what was in flight (%s)", diff, d)
		}
	}
	return got, clean(db)
}

// goesOn checks that a recovered store takes writes and can be opened again.
func (s *session) goesOn() error {
	err := s.write(s.c.changes(1), false)
	if err == nil {
		err = s.reopen(s.c.rng.IntN(2) == 0)
	}
	if err == nil && s.c.rng.IntN(4) == 0 {
		err = clean(s.db)
	}
	return err
}

// contents reads a store by iteration, and by Get before and after it. These must agree: the first
// reads may be answered beside a replay.
func contents(db *DB) (m model, err error) {
	defer rescue(&err)
	m = model{}
	before := make([]string, len(crashKeys))
	for i, k := range crashKeys {
		v, err := db.Get([]byte(k))
		before[i] = fmt.Sprintf("%q, %v", v, err)
	}
	tx, err := db.Begin(false)
	if err != nil {
		return nil, err
	}
	for k, v := range tx.All(nil, nil) {
		m[string(k)] = string(v)
	}
	if err := firstErr(tx.Err(), tx.Rollback()); err != nil {
		return nil, fmt.Errorf("iterate: %w", err)
	}
	for i, k := range crashKeys {
		v, err := db.Get([]byte(k))
		if now := fmt.Sprintf("%q, %v", v, err); now != before[i] {
			return nil, fmt.Errorf("Get(%s) = %.30s; before the iteration it was %.30s", shortKey(k), now, before[i])
		}
		want, ok := m[k]
		if ok != (err == nil) || ok && want != string(v) {
			return nil, fmt.Errorf("Get(%s) = %.12q, %v; iteration found %v %.12q", shortKey(k), v, err, ok, want)
		}
	}
	return m, nil
}

// difference describes the first key in which two models differ.
func difference(got, want model) string {
	for _, k := range slices.Concat(got.keys(), want.keys()) {
		g, have := got[k]
		w, must := want[k]
		if have != must || g != w {
			return fmt.Sprintf("%s: found %v %.12q, want %v %.12q", shortKey(k), have, g, must, w)
		}
	}
	return ""
}
