package nvkvraft

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
	"nvkv/kv"
)

const layout = "nvkvraft log 1"

var (
	// ErrKeyNotFound says that the StableStore has no such key. Raft compares its text.
	ErrKeyNotFound = errors.New("not found")

	// ErrNotLog says that a store of kv holds something else than a raft log.
	ErrNotLog = errors.New("nvkvraft: the store holds no raft log")
)

var (
	_ raft.LogStore               = (*Store)(nil)
	_ raft.StableStore            = (*Store)(nil)
	_ raft.MonotonicLogStore      = (*Store)(nil)
	_ raft.CommitTrackingLogStore = (*Store)(nil)
)

var (
	formatKey = []byte("f")
	logStart  = []byte("l")
	logEnd    = []byte("m") // above every entry
)

// Store is a raft log and raft's settings in one store of kv. It is safe for concurrent use.
type Store struct {
	db      *kv.DB
	measure meter
	staged  atomic.Uint64 // commit index for the next StoreLogs; 0: none
	first   atomic.Uint64 // index of the lowest entry; 0: there is none
	last    atomic.Uint64 // index of the highest entry
	any     atomic.Bool   // there are entries; raft writes none of index 0, others may

	recent atomic.Pointer[chunk] // the chunk that GetLog read last

	cuts atomic.Uint64 // goes up before and after a change that removes entries

	recentMu sync.Mutex // held to set recent; cuts does not change meanwhile

	mu     sync.Mutex // one change at a time; guards batch and encode
	batch  *kv.Batch
	encode encoder
}

// Open opens the raft log at path and makes one where there is none. A nil o means all
// defaults.
func Open(path string, o *Options) (*Store, error) {
	if o == nil {
		o = new(Options)
	}
	db, err := kv.Open(path, o.store())
	if err != nil {
		return nil, err
	}
	s, err := over(db, o)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", path, err), db.Close())
	}
	return s, nil
}

// over returns the log in a store of kv.
func over(db *kv.DB, o *Options) (*Store, error) {
	s := &Store{db: db, batch: db.NewBatch(), measure: meter{off: o.NoMetrics, to: o.Metrics}}
	if err := s.claim(o.ReadOnly); err != nil {
		return nil, err
	}
	if err := s.prewrite(o); err != nil {
		return nil, err
	}
	if err := s.findEnds(); err != nil {
		return nil, err
	}
	return s, nil
}

// claim checks that the store is a raft log, and marks it as one where it is empty.
func (s *Store) claim(readOnly bool) error {
	switch v, err := s.db.Get(formatKey); {
	case err == nil && string(v) == layout:
		return nil
	case err == nil:
		return fmt.Errorf("%w: its layout is %.40q", ErrNotLog, v)
	case !errors.Is(err, kv.ErrNotFound):
		return err
	}
	empty := true
	if err := s.db.Scan(nil, nil, 1, func(_, _ []byte) bool { empty = false; return false }); err != nil {
		return err
	}
	if !empty || readOnly {
		return ErrNotLog
	}
	return s.db.Put(formatKey, []byte(layout))
}

// Close closes the store. A second Close returns nil.
func (s *Store) Close() error { return s.db.Close() }

// Sync makes everything durable that was written before. There is nothing to do unless
// Options.NoSync is set.
func (s *Store) Sync() error { return s.db.Sync() }

// Metrics returns the counters of the kv store beneath.
func (s *Store) Metrics() kv.Metrics { return s.db.Metrics() }

// IsMonotonic returns true: raft then leaves no gap between two entries, and deletes the whole
// log when it installs a snapshot, which costs one tombstone here.
func (s *Store) IsMonotonic() bool { return true }

// StageCommitIndex notes the commit index that the entries of the next StoreLogs carry.
func (s *Store) StageCommitIndex(index uint64) error {
	s.staged.Store(index)
	return nil
}

// GetCommitIndex returns the commit index that the highest entry carries, which is never above
// that entry's own index. It returns 0 where there is none. After the end of the log was
// deleted, the entry that is the highest then carries an older commit index, which still holds.
func (s *Store) GetCommitIndex() (uint64, error) {
	commit, err := s.entry(s.last.Load(), new(raft.Log))
	if errors.Is(err, raft.ErrLogNotFound) {
		return 0, nil
	}
	return commit, err
}

func stableKey(key []byte) []byte { return append([]byte{'s'}, key...) }

// Set stores a value, durably.
func (s *Store) Set(key, val []byte) error { return s.db.Put(stableKey(key), val) }

// Get returns the value of a key, or ErrKeyNotFound.
func (s *Store) Get(key []byte) ([]byte, error) {
	v, err := s.db.Get(stableKey(key))
	if errors.Is(err, kv.ErrNotFound) {
		return nil, ErrKeyNotFound
	}
	return v, err
}

// SetUint64 stores a number, durably.
func (s *Store) SetUint64(key []byte, val uint64) error {
	return s.Set(key, binary.BigEndian.AppendUint64(nil, val))
}

// GetUint64 returns the number of a key, or ErrKeyNotFound.
func (s *Store) GetUint64(key []byte) (uint64, error) {
	v, err := s.Get(key)
	if err != nil {
		return 0, err
	}
	if len(v) != 8 {
		return 0, fmt.Errorf("nvkvraft: %.40q holds %d bytes, not a number", key, len(v))
	}
	return binary.BigEndian.Uint64(v), nil
}

// Ages returns how long ago the lowest and the highest entry were appended by their leaders'
// clocks; zero where there is none or it has no time.
func (s *Store) Ages(now time.Time) (oldest, newest time.Duration) {
	age := func(index uint64) time.Duration {
		var l raft.Log
		if _, err := s.entry(index, &l); err != nil || l.AppendedAt.IsZero() {
			return 0
		}
		return now.Sub(l.AppendedAt)
	}
	return age(s.first.Load()), age(s.last.Load())
}
