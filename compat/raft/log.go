package nvkvraft

import (
	"fmt"

	"github.com/hashicorp/raft"
	"nvkv/kv"
)

// findEnds sets first and last from what the store holds. s.mu is held, or nobody has the store
// yet.
func (s *Store) findEnds() error {
	var first, last uint64
	var have bool
	err := s.db.View(func(tx *kv.Tx) (err error) {
		c := tx.Cursor()
		if c.Seek(logStart) {
			first, have = keyIndex(c.Key())
		}
		if err := c.Close(); err != nil || !have {
			return err
		}
		highest, err := chunkAt(tx, ^uint64(0))
		if err == nil {
			last = highest.last()
		}
		return err
	})
	if err != nil {
		return err
	}
	s.setEnds(first, last, have)
	return nil
}

func (s *Store) setEnds(first, last uint64, have bool) {
	// last goes first: who sees an index in first finds last at least there.
	s.last.Store(last)
	s.first.Store(first)
	s.any.Store(have)
}

// FirstIndex returns the index of the lowest entry, 0 where there is none.
func (s *Store) FirstIndex() (uint64, error) { return s.first.Load(), nil }

// LastIndex returns the index of the highest entry, 0 where there is none.
func (s *Store) LastIndex() (uint64, error) { return s.last.Load(), nil }

// GetLog reads an entry into log. Where there is none it returns raft.ErrLogNotFound. Entries
// that were stored together are read together: the next ones cost no read of the store.
func (s *Store) GetLog(index uint64, log *raft.Log) error {
	defer s.measure.since("getLog", s.measure.now())
	_, err := s.entry(index, log)
	return err
}

// entry reads an entry and returns the commit index that it carries.
func (s *Store) entry(index uint64, log *raft.Log) (commit uint64, err error) {
	if !s.any.Load() || index < s.first.Load() || index > s.last.Load() {
		return 0, raft.ErrLogNotFound
	}
	c := s.recent.Load()
	if c == nil || !c.has(index) {
		if c, err = s.chunk(index); err != nil {
			return 0, fmt.Errorf("entry %d: %w", index, err)
		}
		if c == nil || !c.has(index) {
			return 0, raft.ErrLogNotFound
		}
	}
	// The entry gets memory of its own: what raft keeps must not keep the chunk.
	_, start, end := c.find(index)
	if commit, err = readEntry(log, index, append([]byte(nil), c.b[start:end]...)); err != nil {
		return 0, fmt.Errorf("entry %d: %w", index, err)
	}
	return commit, nil
}

// chunk reads the chunk that may hold an entry. Chunks of several entries become the recent one,
// unless the log was changed meanwhile in a way that removes entries.
func (s *Store) chunk(index uint64) (*chunk, error) {
	cuts := s.cuts.Load()
	var c *chunk
	err := s.db.View(func(tx *kv.Tx) (err error) {
		c, err = chunkAt(tx, index)
		return err
	})
	if err != nil || c == nil || c.count == 1 {
		return c, err
	}
	s.recentMu.Lock()
	if s.cuts.Load() == cuts {
		s.recent.Store(c)
	}
	s.recentMu.Unlock()
	return c, nil
}

// StoreLog stores one entry. It is durable when the call returns.
func (s *Store) StoreLog(log *raft.Log) error { return s.StoreLogs([]*raft.Log{log}) }

// StoreLogs stores entries, all or none, with one fence. They are durable when it returns. An
// entry replaces the one that had its index.
func (s *Store) StoreLogs(logs []*raft.Log) error {
	if len(logs) == 0 {
		return nil
	}
	begun := s.measure.now()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.encode.commit = s.staged.Load()
	defer s.encode.reset()
	if !ascending(logs) || s.any.Load() && logs[0].Index <= s.last.Load() {
		return s.replace(logs)
	}
	s.batch.Reset()
	var key [9]byte
	s.encode.put = func(first uint64, value []byte) error {
		s.batch.Put(logKey(key[:0], first), value)
		return nil
	}
	for _, l := range logs {
		_ = s.encode.add(l)
	}
	_ = s.encode.flush()
	if err := s.db.Write(s.batch); err != nil {
		return err
	}
	first := logs[0].Index
	if s.any.Load() {
		first = s.first.Load()
	}
	s.setEnds(first, logs[len(logs)-1].Index, true)
	s.measure.batch(len(logs), s.batch.Size(), begun)
	return nil
}

func ascending(logs []*raft.Log) bool {
	for i, l := range logs[1:] {
		if l.Index <= logs[i].Index {
			return false
		}
	}
	return true
}

// replace stores entries of which some may be there already, or which come in no order. Raft
// deletes before it stores and so does not get here. s.mu is held.
func (s *Store) replace(logs []*raft.Log) error {
	s.forget()
	err := s.db.Update(func(tx *kv.Tx) error {
		s.encode.put = func(first uint64, value []byte) error {
			return tx.Put(logKey(nil, first), value)
		}
		for _, l := range logs {
			if err := cut(tx, l.Index, l.Index); err != nil {
				return err
			}
			if err := s.encode.add(l); err != nil {
				return err
			}
			if err := s.encode.flush(); err != nil {
				return err
			}
		}
		return nil
	})
	return s.changed(err)
}

// forget drops the recent chunk, and keeps readers under way from making theirs the recent one. A
// change that removes entries calls it before and after.
func (s *Store) forget() {
	s.recentMu.Lock()
	defer s.recentMu.Unlock()
	s.cuts.Add(1)
	s.recent.Store(nil)
}

// changed ends a change that removed entries.
func (s *Store) changed(err error) error {
	s.forget()
	if err != nil {
		return err
	}
	return s.findEnds()
}

// DeleteRange deletes the entries of [min, max] with one tombstone and one fence. A chunk that
// reaches beyond a bound is written again without them.
func (s *Store) DeleteRange(min, max uint64) error {
	defer s.measure.since("deleteRange", s.measure.now())
	if min > max {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.forget()
	return s.changed(s.db.Update(func(tx *kv.Tx) error { return cut(tx, min, max) }))
}
