package nvkvraft

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/raft"
	"nvkv/kv"
)

var _ raft.BatchingFSM = (*FSM)(nil)

var (
	// ErrSession says that a session is unknown: it was not used for so long that it expired.
	// Whether a request of it that was proposed before was carried out is unknown then.
	ErrSession = errors.New("nvkvraft: session has expired")

	// ErrRequest says that a session has a later request already.
	ErrRequest = errors.New("nvkvraft: the session is beyond this request")
)

// Result is what the state machine answers to a command.
type Result struct {
	Index uint64 // of the entry that carried the command out
	Held  bool   // all conditions held, and the operations were carried out
	Err   error  // the command was refused, or the state machine has failed
}

// Apply applies one entry. It returns a Result.
func (f *FSM) Apply(l *raft.Log) any { return f.ApplyBatch([]*raft.Log{l})[0] }

// ApplyBatch applies entries in one transaction and returns a Result for each. Each command is
// judged by its own time, so it does not matter which entries come together.
func (f *FSM) ApplyBatch(logs []*raft.Log) []any {
	results := make([]any, len(logs))
	a := apply{f: f, at: f.mark()}
	err := f.Failure()
	if err == nil {
		err = f.with(func(db *kv.DB) error {
			return db.Update(func(tx *kv.Tx) error {
				a.tx = tx
				for i, l := range logs {
					r, err := a.entry(l)
					if err != nil {
						return fmt.Errorf("entry %d: %w", l.Index, err)
					}
					results[i] = r
				}
				return tx.Put(markKey, a.at.append(nil))
			})
		})
	}
	if err != nil {
		f.fail(err)
		for i := range results {
			results[i] = Result{Err: err}
		}
		return results
	}
	f.reached(a.at)
	f.events.add(a.events, a.at.index)
	return results
}

func (f *FSM) mark() mark {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.at
}

// apply is the application of some entries.
type apply struct {
	f      *FSM
	tx     *kv.Tx
	at     mark
	events []Event
}

// entry applies an entry. An error means that the store failed; refusals are in the Result.
func (a *apply) entry(l *raft.Log) (Result, error) {
	if l.Index <= a.at.index {
		return Result{Index: l.Index}, nil // applied before a crash
	}
	a.at.index, a.at.term = l.Index, l.Term
	if l.Type != raft.LogCommand {
		return Result{Index: l.Index}, nil
	}
	c, err := DecodeCommand(l.Data)
	if err != nil {
		return Result{Index: l.Index, Err: err}, nil
	}
	a.at.clock = max(a.at.clock, c.Time.UnixNano())
	if c.Register {
		return Result{Index: l.Index, Held: true}, a.remember(l.Index, 0, Result{})
	}
	if c.Session != 0 {
		if r, known, err := a.earlier(c); known || err != nil {
			return r, err
		}
	}
	r := Result{Index: l.Index}
	if r.Held, err = a.holds(c.If); err != nil {
		return r, err
	}
	if r.Held {
		if err := a.do(c.Do); err != nil {
			return r, err
		}
	}
	if c.Session != 0 {
		err = a.remember(c.Session, c.Request, r)
	}
	return r, err
}

// get reads a key of the store by the time of the command.
func (a *apply) get(key []byte) (value []byte, found bool, err error) {
	v, err := a.tx.Get(key)
	if errors.Is(err, kv.ErrNotFound) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, err
	}
	at, err := a.tx.Expiry(key)
	if err != nil {
		return nil, false, err
	}
	return v, at.IsZero() || at.UnixNano() > a.at.clock, nil
}

// holds says whether all conditions hold.
func (a *apply) holds(conditions []Condition) (bool, error) {
	for _, c := range conditions {
		v, found, err := a.get(userKey(c.Key))
		if err != nil {
			return false, err
		}
		if found == c.Absent || found && string(v) != string(c.Value) {
			return false, nil
		}
	}
	return true, nil
}

func (a *apply) do(ops []Op) (err error) {
	for _, o := range ops {
		switch o.Kind {
		case OpPut:
			if !o.Expiry.IsZero() {
				a.at.expiry = max(a.at.expiry, o.Expiry.UnixNano())
			}
			err = a.put(userKey(o.Key), o.Value, o.Expiry)
		case OpDelete:
			err = a.tx.Delete(userKey(o.Key))
		case OpDeleteRange:
			err = a.tx.DeleteRange(userKey(o.Key), userEnd(o.End))
		}
		if err != nil {
			return err
		}
		a.events = append(a.events, Event{Index: a.at.index, Op: o})
	}
	return nil
}

func (a *apply) put(key, value []byte, expiry time.Time) error {
	if !expiry.IsZero() && expiry.UnixNano() <= a.at.clock {
		return a.tx.Delete(key)
	}
	return a.tx.PutUntil(key, value, expiry)
}

func sessionKey(id uint64) []byte {
	return binary.BigEndian.AppendUint64([]byte{sessionPrefix}, id)
}

// earlier returns the result of a request that was carried out before, or why the session cannot
// have it carried out. known is false where it is a new one.
func (a *apply) earlier(c *Command) (r Result, known bool, err error) {
	v, found, err := a.get(sessionKey(c.Session))
	if err != nil {
		return Result{}, false, err
	}
	if !found || len(v) != 17 {
		return Result{Index: a.at.index, Err: ErrSession}, true, nil
	}
	switch last := binary.BigEndian.Uint64(v); {
	case c.Request == last:
		return Result{Index: binary.BigEndian.Uint64(v[8:]), Held: v[16] == 1}, true, nil
	case c.Request < last:
		return Result{Index: a.at.index, Err: ErrRequest}, true, nil
	}
	return Result{}, false, nil
}

// remember keeps the last request of a session with its result.
func (a *apply) remember(session, request uint64, r Result) error {
	v := binary.BigEndian.AppendUint64(nil, request)
	v = append(binary.BigEndian.AppendUint64(v, r.Index), flag(r.Held))
	return a.tx.PutUntil(sessionKey(session), v, time.Unix(0, a.at.clock).Add(a.f.o.SessionLife))
}
