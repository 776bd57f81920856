package nvkvraft

import (
	"context"
	"errors"
	"sync"

	"nvkv/kv"
)

// ErrCompacted says that the events that a watcher asks for are not kept any more.
var ErrCompacted = errors.New("nvkvraft: these events are not kept any more")

const defaultEventBytes = 16 << 20

// Event is a change that was carried out by the entry at Index.
type Event struct {
	Index uint64
	Op
}

// Events keeps the newest changes in memory. Expiry makes no event: who watches sees the expiry
// of a key when it is put.
type Events struct {
	mu     sync.Mutex
	limit  int
	bytes  int
	list   []Event
	after  uint64 // the list has all events behind this index
	upTo   uint64 // and up to this one
	more   chan struct{}
	closed bool
}

func newEvents(limit int) *Events {
	if limit <= 0 {
		limit = defaultEventBytes
	}
	return &Events{limit: limit, more: make(chan struct{})}
}

func eventBytes(e Event) int { return 64 + len(e.Key) + len(e.Value) + len(e.End) }

// add adds the events of entries up to an index, and forgets old ones beyond the limit.
func (e *Events) add(events []Event, upTo uint64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, v := range events {
		e.bytes += eventBytes(v)
	}
	e.list = append(e.list, events...)
	drop := 0
	for drop < len(e.list) && e.bytes > e.limit {
		// The events of one entry go together.
		for index := e.list[drop].Index; drop < len(e.list) && e.list[drop].Index == index; drop++ {
			e.bytes -= eventBytes(e.list[drop])
		}
		e.after = e.list[drop-1].Index
	}
	clear(e.list[:drop])
	e.list = e.list[drop:]
	e.upTo = upTo
	e.wakeLocked()
}

func (e *Events) wakeLocked() {
	close(e.more)
	e.more = make(chan struct{})
}

// restart forgets all events: the state is another one.
func (e *Events) restart(at uint64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.list, e.bytes, e.after, e.upTo = nil, 0, at, at
	e.wakeLocked()
}

func (e *Events) close() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.closed = true
	e.wakeLocked()
}

// Events returns the events of the entries behind an index, and the index up to which they are
// all. It waits until there is at least one entry. ErrCompacted says that some are lost.
func (f *FSM) Events(ctx context.Context, after uint64) (events []Event, upTo uint64, err error) {
	e := f.events
	for {
		e.mu.Lock()
		closed, more := e.closed, e.more
		low, high := e.after, e.upTo
		if after >= low && after < high {
			for i, v := range e.list {
				if v.Index > after {
					events = append(events, e.list[i:]...)
					break
				}
			}
		}
		e.mu.Unlock()
		switch {
		case closed:
			return nil, after, kv.ErrClosed
		case after < low:
			return nil, after, ErrCompacted
		case after < high:
			return events, high, nil
		}
		select {
		case <-more:
		case <-ctx.Done():
			return nil, after, ctx.Err()
		}
	}
}
