package nvkvraft

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"nvkv/kv"
)

// The store of a state machine has these keys:
//
//	'k' key       a key of the users
//	'm'           how far it is: see mark
//	'r' session   the last request of a session and its result; expires
const (
	userPrefix    = 'k'
	sessionPrefix = 'r'
)

var (
	markKey  = []byte{'m'}
	usersEnd = []byte{userPrefix + 1}
)

func userKey(key []byte) []byte { return append([]byte{userPrefix}, key...) }

// userEnd is the key that ends a range; a nil end is open.
func userEnd(end []byte) []byte {
	if end == nil {
		return usersEnd
	}
	return userKey(end)
}

// mark says how far a state is: which entry it applied last, and what time that told.
type mark struct {
	index, term uint64
	clock       int64 // nanoseconds since 1970; the highest Time of the commands
	expiry      int64 // the latest at which a key of the users was to expire
}

func (m mark) append(dst []byte) []byte {
	dst = binary.BigEndian.AppendUint64(dst, m.index)
	dst = binary.BigEndian.AppendUint64(dst, m.term)
	dst = binary.BigEndian.AppendUint64(dst, uint64(m.clock))
	return binary.BigEndian.AppendUint64(dst, uint64(m.expiry))
}

const markBytes = 32

func readMark(b []byte) mark {
	n := func(i int) uint64 { return binary.BigEndian.Uint64(b[8*i:]) }
	return mark{n(0), n(1), int64(n(2)), int64(n(3))}
}

// state is a store of kv that a Restore may replace. It is closed when the last user is gone.
type state struct {
	db      *kv.DB
	users   int // guarded by FSM.mu
	retired bool
}

// FSMOptions are the options of OpenFSM. nil means all defaults.
type FSMOptions struct {
	Device      string        // kind of device; "" detects it from the path
	CacheBytes  int64         // bound on pages in memory: see kv.Options
	MaxBytes    int64         // bound on the store: see kv.Options
	SessionLife time.Duration // how long an unused session is kept, by the state's clock; 0: an hour
	EventBytes  int           // bound on the events that are kept for Watch; 0: 16 MiB
}

// FSM is a state machine above kv: an ordered map with expiry, sessions and events. It
// implements raft.BatchingFSM.
//
// Its store is relaxed: an applied command is durable some time later, and after a crash raft
// applies again what is missing. Each command is written together with its index, so nothing is
// applied twice. The entries stay in the log until a snapshot, and a snapshot ends with a Sync of
// the store. So what the store may lose is always in the log.
//
// The clock of the store is the highest time in the commands that it applied. Replicas that
// applied the same commands therefore agree on what has expired, whatever their own clocks show.
type FSM struct {
	path   string
	o      FSMOptions
	openKV func(path string, o *kv.Options) (*kv.DB, error) // kv.Open, but in tests
	step   func(string)                                     // is told of the steps of a Restore
	clock  atomic.Int64
	events *Events

	mu      sync.Mutex
	cur     *state
	at      mark          // of cur
	moved   chan struct{} // closed when at changes
	failure error         // why nothing is applied any more
	failed  chan struct{} // closed with it
}

// OpenFSM opens the state in the file at path, and makes an empty one where there is none.
func OpenFSM(path string, o *FSMOptions) (*FSM, error) {
	f := newFSM(path, o)
	if err := f.start(); err != nil {
		return nil, err
	}
	return f, nil
}

func newFSM(path string, o *FSMOptions) *FSM {
	f := &FSM{path: path, moved: make(chan struct{}), failed: make(chan struct{}), openKV: kv.Open, step: func(string) {}}
	if o != nil {
		f.o = *o
	}
	if f.o.SessionLife <= 0 {
		f.o.SessionLife = time.Hour
	}
	f.events = newEvents(f.o.EventBytes)
	return f
}

func (f *FSM) start() error {
	if err := errors.Join(removeIfThere(f.incoming()), removeLike(f.path+tried)); err != nil {
		return err
	}
	db, at, err := f.open(f.path)
	if err != nil {
		return err
	}
	f.cur, f.at = &state{db: db, users: 1}, at
	f.clock.Store(at.clock)
	f.events.restart(at.index)
	return nil
}

// removeIfThere removes a store, and what kv left of its Restore where the process was killed.
func removeIfThere(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return removeLike(path + ".restore-")
}

// removeLike removes the files and directories whose names begin so.
func removeLike(begin string) error {
	dir, name := filepath.Split(begin)
	list, err := os.ReadDir(filepath.Clean(dir))
	for _, e := range list {
		if strings.HasPrefix(e.Name(), name) {
			err = errors.Join(err, os.RemoveAll(filepath.Join(dir, e.Name())))
		}
	}
	return err
}

// incoming is the name of the state that a Restore builds.
func (f *FSM) incoming() string { return f.path + ".incoming" }

func (f *FSM) options() *kv.Options {
	return &kv.Options{
		Device: f.o.Device, CacheBytes: f.o.CacheBytes, MaxBytes: f.o.MaxBytes, Durability: kv.Relaxed,
		Clock: func() time.Time { return time.Unix(0, f.clock.Load()) },
	}
}

// open opens a store of states and reads its mark.
func (f *FSM) open(path string) (*kv.DB, mark, error) {
	db, err := f.openKV(path, f.options())
	if err != nil {
		return nil, mark{}, err
	}
	b, err := db.Get(markKey)
	switch {
	case err == nil && len(b) == markBytes:
		return db, readMark(b), nil
	case errors.Is(err, kv.ErrNotFound):
		empty := true
		err = db.Scan(nil, nil, 1, func(_, _ []byte) bool { empty = false; return false })
		if err == nil && empty {
			return db, mark{}, nil
		}
		fallthrough
	default:
		if err == nil {
			err = errors.New("nvkvraft: the store holds no state of a state machine")
		}
		return nil, mark{}, errors.Join(fmt.Errorf("%s: %w", path, err), db.Close())
	}
}

// Close closes the store, when the reads under way have ended.
func (f *FSM) Close() error {
	f.mu.Lock()
	s := f.cur
	f.cur = nil
	f.failLocked(kv.ErrClosed)
	f.mu.Unlock()
	if s == nil {
		return nil
	}
	f.events.close()
	return f.release(s)
}

// acquire returns the state of now, which is not closed before release.
func (f *FSM) acquire() (*state, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.cur == nil {
		return nil, kv.ErrClosed
	}
	f.cur.users++
	return f.cur, nil
}

// release ends a use; the state itself has one until it is replaced or closed.
func (f *FSM) release(s *state) error {
	f.mu.Lock()
	s.users--
	last := s.users == 0
	f.mu.Unlock()
	if last {
		return s.db.Close()
	}
	return nil
}

// with runs fn with the store of now.
func (f *FSM) with(fn func(db *kv.DB) error) error {
	s, err := f.acquire()
	if err != nil {
		return err
	}
	return errors.Join(fn(s.db), f.release(s))
}

// Get returns a copy of the value of a key, or kv.ErrNotFound.
func (f *FSM) Get(key []byte) (value []byte, err error) {
	if len(key) > MaxKeyBytes {
		return nil, kv.ErrNotFound
	}
	s, err := f.acquire()
	if err != nil {
		return nil, err
	}
	value, err = s.db.Get(userKey(key))
	return value, errors.Join(err, f.release(s))
}

// Scan calls fn with up to n records of [start, end) in ascending order until it returns false.
// A nil end is open. All belong to one instant. Slices are valid until fn returns.
func (f *FSM) Scan(start, end []byte, n int, fn func(key, value []byte) bool) error {
	return f.with(func(db *kv.DB) error {
		return db.Scan(userKey(start), userEnd(end), n, func(k, v []byte) bool { return fn(k[1:], v) })
	})
}

// Applied returns the index of the last command that was applied.
func (f *FSM) Applied() uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.at.index
}

// Clock returns the time of the state.
func (f *FSM) Clock() time.Time { return time.Unix(0, f.clock.Load()).UTC() }

// Expiring says whether a key may still expire as the state's clock goes on. While it does and no
// commands come, a leader should propose an empty command now and then, for its time.
func (f *FSM) Expiring() bool {
	at := f.mark()
	return at.expiry > at.clock
}

// WaitApplied waits until the command at index, or a later one, has been applied.
func (f *FSM) WaitApplied(ctx context.Context, index uint64) error {
	for {
		f.mu.Lock()
		at, moved, failure := f.at.index, f.moved, f.failure
		f.mu.Unlock()
		switch {
		case at >= index:
			return nil
		case failure != nil:
			return failure
		}
		select {
		case <-moved:
		case <-f.failed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// reached notes how far the state is now.
func (f *FSM) reached(at mark) {
	f.clock.Store(at.clock)
	f.mu.Lock()
	f.at = at
	close(f.moved)
	f.moved = make(chan struct{})
	f.mu.Unlock()
}

// Failed is closed when the state machine cannot go on, because its store failed or is full. It
// applies nothing then. Opened again, it goes on where it was.
func (f *FSM) Failed() <-chan struct{} { return f.failed }

// Failure returns why the state machine cannot go on, or nil.
func (f *FSM) Failure() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.failure
}

func (f *FSM) failLocked(err error) {
	if f.failure == nil {
		f.failure = err
		close(f.failed)
	}
}

func (f *FSM) fail(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.failLocked(err)
}

// Metrics returns the counters of the store.
func (f *FSM) Metrics() (m kv.Metrics, err error) {
	err = f.with(func(db *kv.DB) error { m = db.Metrics(); return nil })
	return m, err
}
