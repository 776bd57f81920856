package bench

import (
	"bytes"
	"fmt"
	"slices"
	"sync"

	"nvkv/compat"
)

// NoopEngine names the engine that does nothing. A run on it measures the cost of the benchmark
// itself.
const NoopEngine = "noop"

// MapEngine names an engine that keeps everything in a Go map and sorts it for each scan. It is a
// reference for the tests of this package.
const MapEngine = "map"

var errNotFound = compat.ErrNotFound

// IsReal reports whether the engine stores anything: noop and map are not competitors.
func IsReal(engine string) bool { return engine != NoopEngine && engine != MapEngine }

// openEngine opens one of compat's engines or of this package's own.
func openEngine(name, dir string, relaxed bool) (compat.Engine, error) {
	switch name {
	case NoopEngine:
		return &noop{found: true}, nil
	case MapEngine:
		return &mapEngine{values: map[string][]byte{}}, nil
	}
	return compat.Open(name, dir, compat.Options{Relaxed: relaxed})
}

// CheckEngine returns an error that lists the known engines if name is not one of them.
func CheckEngine(name string) error {
	known := append(compat.Names(), NoopEngine, MapEngine)
	if slices.Contains(known, name) {
		return nil
	}
	return fmt.Errorf("bench: no engine %q: there are %v", name, known)
}

// noop answers every read with the same value.
type noop struct {
	value []byte
	found bool // whether reads find something
}

func (n *noop) Get(dst, _ []byte) ([]byte, error) {
	if !n.found {
		return dst, errNotFound
	}
	return append(dst, n.value...), nil
}

func (n *noop) Put(_, _ []byte) error            { return nil }
func (n *noop) Delete([]byte) error              { return nil }
func (n *noop) WriteBatch([]compat.Op) error     { return nil }
func (n *noop) Snapshot() (compat.Reader, error) { return noopReader{n}, nil }
func (n *noop) Flush() error                     { return nil }
func (n *noop) SizeOnDisk() (int64, error)       { return 0, nil }
func (n *noop) Stats() compat.Stats              { return compat.Stats{} }
func (n *noop) Close() error                     { return nil }

func (n *noop) Scan(start []byte, count int, fn func(key, value []byte) bool) error {
	for i := 0; i < count && fn(start, n.value); i++ {
	}
	return nil
}

type noopReader struct{ *noop }

// mapEngine is the reference engine. It stores nothing on a medium.
type mapEngine struct {
	mu     sync.RWMutex      // guards the fields below
	values map[string][]byte //
	stats  compat.Stats
}

func (m *mapEngine) Get(dst, key []byte) ([]byte, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	value, ok := m.values[string(key)]
	if !ok {
		return dst, errNotFound
	}
	return append(dst, value...), nil
}

func (m *mapEngine) Put(key, value []byte) error {
	return m.WriteBatch([]compat.Op{{Key: key, Value: value}})
}

func (m *mapEngine) Delete(key []byte) error {
	return m.WriteBatch([]compat.Op{{Key: key, Delete: true}})
}

func (m *mapEngine) WriteBatch(ops []compat.Op) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, op := range ops {
		m.stats.UserBytes += uint64(len(op.Key) + len(op.Value))
		if op.Delete {
			delete(m.values, string(op.Key))
		} else {
			m.values[string(op.Key)] = bytes.Clone(op.Value)
		}
	}
	return nil
}

func (m *mapEngine) Scan(start []byte, count int, fn func(key, value []byte) bool) error {
	m.mu.RLock()
	defer m.mu.RUnlock()
	var keys []string
	for key := range m.values {
		if key >= string(start) {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	if count >= 0 && len(keys) > count {
		keys = keys[:count]
	}
	for _, key := range keys {
		if !fn([]byte(key), m.values[key]) {
			break
		}
	}
	return nil
}

func (m *mapEngine) Snapshot() (compat.Reader, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	clone := &mapEngine{values: make(map[string][]byte, len(m.values))}
	for key, value := range m.values {
		clone.values[key] = value
	}
	return clone, nil
}

func (m *mapEngine) Flush() error               { return nil }
func (m *mapEngine) SizeOnDisk() (int64, error) { return 0, nil }
func (m *mapEngine) Close() error               { return nil }

func (m *mapEngine) Stats() compat.Stats {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.stats
}
