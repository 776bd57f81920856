package conformance

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"testing"

	"nvkv/compat"
	"nvkv/internal/effort"
)

// A store is an engine under test together with assertions for the cases. Its methods end the test
// if the engine answers wrongly. They must be called from the test's goroutine.
type store struct {
	*testing.T
	compat.Engine
	dir  string
	open func(dir string) (compat.Engine, error)
}

func newStore(t *testing.T, open func(dir string) (compat.Engine, error)) *store {
	t.Helper()
	s := &store{T: t, dir: effort.Dir(t), open: open}
	s.openAgain()
	t.Cleanup(func() { s.must(s.Engine.Close()) })
	return s
}

// openAgain opens the engine in the same directory again.
func (s *store) openAgain() {
	s.Helper()
	engine, err := s.open(s.dir)
	if err != nil {
		s.Fatalf("open: %v", err)
	}
	s.Engine = engine
}

func (s *store) reopen() {
	s.Helper()
	s.must(s.Engine.Close())
	s.openAgain()
}

func (s *store) excused(x compat.Exception) bool {
	return slices.Contains(compat.Exceptions(s.Engine), x)
}

func (s *store) must(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

func (s *store) put(key, value string) {
	s.Helper()
	if err := s.Put([]byte(key), []byte(value)); err != nil {
		s.Fatalf("Put(%s): %v", brief(key), err)
	}
}

func (s *store) del(key string) {
	s.Helper()
	if err := s.Delete([]byte(key)); err != nil {
		s.Fatalf("Delete(%s): %v", brief(key), err)
	}
}

func (s *store) write(ops ...compat.Op) {
	s.Helper()
	if err := s.WriteBatch(ops); err != nil {
		s.Fatalf("WriteBatch of %d: %v", len(ops), err)
	}
}

func (s *store) snapshot() compat.Reader {
	s.Helper()
	r, err := s.Snapshot()
	if err != nil {
		s.Fatalf("Snapshot: %v", err)
	}
	return r
}

func (s *store) wantErr(what string, err, want error) {
	s.Helper()
	if !errors.Is(err, want) {
		s.Fatalf("%s: error %v, want %v", what, err, want)
	}
}

// reader has the read methods of engines and snapshots.
type reader interface {
	Get(dst, key []byte) ([]byte, error)
	Scan(start []byte, n int, fn func(key, value []byte) bool) error
}

func (s *store) want(r reader, key, value string) {
	s.Helper()
	got, err := r.Get(nil, []byte(key))
	if err != nil {
		s.Fatalf("Get(%s): %v", brief(key), err)
	}
	if string(got) != value {
		s.Fatalf("Get(%s) = %s, want %s", brief(key), brief(string(got)), brief(value))
	}
}

func (s *store) wantAbsent(r reader, key string) {
	s.Helper()
	got, err := r.Get(nil, []byte(key))
	if !errors.Is(err, compat.ErrNotFound) {
		s.Fatalf("Get(%s) = %s, %v, want ErrNotFound", brief(key), brief(string(got)), err)
	}
}

// entry is a key with its value.
type entry struct{ key, value string }

// scan returns the entries that Scan delivers.
func (s *store) scan(r reader, start []byte, n int) []entry {
	s.Helper()
	var got []entry
	err := r.Scan(start, n, func(k, v []byte) bool {
		got = append(got, entry{string(k), string(v)})
		return true
	})
	if err != nil {
		s.Fatalf("Scan(%s, %d): %v", brief(string(start)), n, err)
	}
	return got
}

func (s *store) wantScan(r reader, start []byte, n int, want []entry) {
	s.Helper()
	got := s.scan(r, start, n)
	for i := range max(len(got), len(want)) {
		if i >= len(got) || i >= len(want) || got[i] != want[i] {
			s.Fatalf("Scan(%s, %d): entry %d is %s, want %s (%d entries, want %d)",
				brief(string(start)), n, i, at(got, i), at(want, i), len(got), len(want))
		}
	}
}

// wantAll checks with Scan and Get that r holds exactly want.
func (s *store) wantAll(r reader, want map[string]string) {
	s.Helper()
	s.wantScan(r, nil, -1, sorted(want))
	for key, value := range want {
		s.want(r, key, value)
	}
}

func sorted(m map[string]string) []entry {
	entries := make([]entry, 0, len(m))
	for key, value := range m {
		entries = append(entries, entry{key, value})
	}
	slices.SortFunc(entries, func(a, b entry) int { return bytes.Compare([]byte(a.key), []byte(b.key)) })
	return entries
}

func at(entries []entry, i int) string {
	if i >= len(entries) {
		return "nothing"
	}
	return brief(entries[i].key) + "=" + brief(entries[i].value)
}

// brief quotes s, truncated if it is long.
func brief(s string) string {
	const limit = 40
	if len(s) <= limit {
		return fmt.Sprintf("%q", s)
	}
	return fmt.Sprintf("%q... (%d bytes)", s[:limit], len(s))
}

func putOp(key, value string) compat.Op {
	return compat.Op{Key: []byte(key), Value: []byte(value)}
}

func deleteOp(key string) compat.Op { return compat.Op{Key: []byte(key), Delete: true} }

// pattern returns n bytes that depend on seed and position.
func pattern(n int, seed uint64) []byte {
	p := make([]byte, n)
	x := seed*0x9E3779B97F4A7C15 + 1
	for i := range p {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
		p[i] = byte(x)
	}
	return p
}
