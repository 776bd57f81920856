package conformance_test

import (
	"errors"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"nvkv/compat"
	"nvkv/compat/conformance"
)

// faultVariable names the fault in the environment of a child process.
const faultVariable = "CONFORMANCE_FAULT"

// faults are ways to break an engine, each with the case that must notice.
var faults = map[string]struct {
	caughtBy string
	engine   func(compat.Engine) compat.Engine
}{
	"empty value is absence":     {"EmptyValue", func(e compat.Engine) compat.Engine { return emptyIsAbsent{e} }},
	"empty key refused":          {"EmptyKey", func(e compat.Engine) compat.Engine { return emptyKeyRefused{e} }},
	"buffers kept":               {"BuffersReused", func(e compat.Engine) compat.Engine { return &buffersKept{Engine: e} }},
	"result shared":              {"ResultIsTheCallers", func(e compat.Engine) compat.Engine { return &resultShared{Engine: e} }},
	"dst forgotten":              {"GetAppends", func(e compat.Engine) compat.Engine { return dstForgotten{e} }},
	"delete of absent key fails": {"DeleteAbsent", func(e compat.Engine) compat.Engine { return deleteDemands{e} }},
	"last of many forgotten":     {"GetMany", func(e compat.Engine) compat.Engine { return lastForgotten{e} }},
	"start excluded":             {"ScanStart", func(e compat.Engine) compat.Engine { return startExcluded{e} }},
	"bound ignored":              {"ScanBound", func(e compat.Engine) compat.Engine { return boundIgnored{e} }},
	"stop ignored":               {"ScanStops", func(e compat.Engine) compat.Engine { return stopIgnored{e} }},
	"batch reversed":             {"BatchOrder", func(e compat.Engine) compat.Engine { return batchReversed{e} }},
	"batch torn by an error":     {"BatchAllOrNone", func(e compat.Engine) compat.Engine { return batchTorn{e} }},
	"expiry dropped":             {"ExpiryRefused", func(e compat.Engine) compat.Engine { return expiryDropped{e} }},
	"batch seen in part":         {"BatchAtOneInstant", func(e compat.Engine) compat.Engine { return batchTorn{e} }},
	"batch got in part":          {"BatchSeenByGets", func(e compat.Engine) compat.Engine { return batchTorn{e} }},
	"stale reads":                {"Linearizable", func(e compat.Engine) compat.Engine { return &staleReads{Engine: e} }},
	"snapshot moves":             {"SnapshotUnmoved", func(e compat.Engine) compat.Engine { return snapshotMoves{e} }},
	"writes kept in memory":      {"KilledProcess", func(e compat.Engine) compat.Engine { return &buffersKept{Engine: e} }},
	"second close fails":         {"UseAfterClose", func(e compat.Engine) compat.Engine { return &closeFails{Engine: e} }},
	"nothing counted":            {"StatsCount", func(e compat.Engine) compat.Engine { return nothingCounted{e} }},
	"size not known":             {"SizeOnDisk", func(e compat.Engine) compat.Engine { return nothingCounted{e} }},
}

// TestFaultsAreCaught breaks an engine in every way of the list and requires that the suite fails.
// Each fault runs in a child process, because a failed subtest fails its parents.
func TestFaultsAreCaught(t *testing.T) {
	for fault, f := range faults {
		t.Run(fault, func(t *testing.T) {
			child := exec.Command(os.Args[0], "-test.run=^TestFaultyEngine$/^"+f.caughtBy+"$", "-test.v")
			child.Env = append(os.Environ(), faultVariable+"="+fault)
			output, err := child.CombinedOutput()
			var exit *exec.ExitError
			if err != nil && !errors.As(err, &exit) {
				t.Fatal(err)
			}
			if !strings.Contains(string(output), "--- FAIL: TestFaultyEngine/"+f.caughtBy) {
				t.Errorf("%s did not fail:\n%s", f.caughtBy, output)
			}
		})
	}
}

func TestFaultyEngine(t *testing.T) {
	fault, ok := faults[os.Getenv(faultVariable)]
	if !ok {
		t.Skip("run by TestFaultsAreCaught")
	}
	conformance.Run(t, func(dir string) (compat.Engine, error) {
		e, err := compat.Open("bbolt", dir, compat.Options{})
		if err != nil {
			return nil, err
		}
		return fault.engine(e), nil
	})
}

type expiryDropped struct{ compat.Engine }

func (e expiryDropped) WriteBatch(ops []compat.Op) error {
	ops = slices.Clone(ops)
	for i := range ops {
		ops[i].Expiry = time.Time{}
	}
	return e.Engine.WriteBatch(ops)
}

type emptyIsAbsent struct{ compat.Engine }

func (e emptyIsAbsent) Put(key, value []byte) error {
	if len(value) == 0 {
		return e.Delete(key)
	}
	return e.Engine.Put(key, value)
}

type emptyKeyRefused struct{ compat.Engine }

func (e emptyKeyRefused) Put(key, value []byte) error {
	if len(key) == 0 {
		return errors.New("key required")
	}
	return e.Engine.Put(key, value)
}

// buffersKept delays each put until the next call.
type buffersKept struct {
	compat.Engine
	late []compat.Op
}

func (e *buffersKept) Put(key, value []byte) error {
	err := e.settle()
	e.late = []compat.Op{{Key: key, Value: value}}
	return err
}

func (e *buffersKept) Get(dst, key []byte) ([]byte, error) {
	if err := e.settle(); err != nil {
		return dst, err
	}
	return e.Engine.Get(dst, key)
}

func (e *buffersKept) WriteBatch(ops []compat.Op) error {
	return errors.Join(e.settle(), e.Engine.WriteBatch(ops))
}

func (e *buffersKept) Delete(key []byte) error {
	err := e.settle()
	e.late = []compat.Op{{Key: key, Delete: true}}
	return err
}

func (e *buffersKept) Close() error { return errors.Join(e.settle(), e.Engine.Close()) }

func (e *buffersKept) settle() error {
	late := e.late
	e.late = nil
	return e.Engine.WriteBatch(late)
}

type resultShared struct {
	compat.Engine
	last []byte
}

func (e *resultShared) Get(dst, key []byte) ([]byte, error) {
	var err error
	e.last, err = e.Engine.Get(e.last[:0], key)
	return e.last, err
}

func (e *resultShared) Put(key, value []byte) error {
	copy(e.last, value)
	return e.Engine.Put(key, value)
}

type dstForgotten struct{ compat.Engine }

func (e dstForgotten) Get(_, key []byte) ([]byte, error) { return e.Engine.Get(nil, key) }

type deleteDemands struct{ compat.Engine }

func (e deleteDemands) Delete(key []byte) error {
	if _, err := e.Get(nil, key); err != nil {
		return err
	}
	return e.Engine.Delete(key)
}

type lastForgotten struct{ compat.Engine }

func (e lastForgotten) GetMany(keys [][]byte, fn func(i int, value []byte, err error) bool) error {
	if len(keys) == 0 {
		return nil
	}
	return compat.GetMany(e.Engine, keys[:len(keys)-1], fn)
}

type startExcluded struct{ compat.Engine }

func (e startExcluded) Scan(start []byte, n int, fn func(key, value []byte) bool) error {
	return e.Engine.Scan(append(slices.Clone(start), 0), n, fn)
}

type boundIgnored struct{ compat.Engine }

func (e boundIgnored) Scan(start []byte, n int, fn func(key, value []byte) bool) error {
	return e.Engine.Scan(start, n+1, fn)
}

type stopIgnored struct{ compat.Engine }

func (e stopIgnored) Scan(start []byte, n int, fn func(key, value []byte) bool) error {
	return e.Engine.Scan(start, n, func(key, value []byte) bool {
		fn(key, value)
		return true
	})
}

type batchReversed struct{ compat.Engine }

func (e batchReversed) WriteBatch(ops []compat.Op) error {
	reversed := slices.Clone(ops)
	slices.Reverse(reversed)
	return e.Engine.WriteBatch(reversed)
}

type batchTorn struct{ compat.Engine }

func (e batchTorn) WriteBatch(ops []compat.Op) error {
	for i := range ops {
		if err := e.Engine.WriteBatch(ops[i : i+1]); err != nil {
			return err
		}
	}
	return nil
}

type snapshotMoves struct{ compat.Engine }

func (e snapshotMoves) Snapshot() (compat.Reader, error) { return movingReader(e), nil }

type movingReader struct{ compat.Engine }

func (movingReader) Close() error { return nil }

// staleReads answers every second Get with the result of the previous Get of the same key.
type staleReads struct {
	compat.Engine
	mu   sync.Mutex
	last map[string][]byte
}

func (e *staleReads) Get(dst, key []byte) ([]byte, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if old, ok := e.last[string(key)]; ok {
		delete(e.last, string(key))
		return append(dst, old...), nil
	}
	value, err := e.Engine.Get(nil, key)
	if err != nil {
		return dst, err
	}
	if e.last == nil {
		e.last = make(map[string][]byte)
	}
	e.last[string(key)] = value
	return append(dst, value...), nil
}

type closeFails struct {
	compat.Engine
	closed bool
}

func (e *closeFails) Close() error {
	if e.closed {
		return errors.New("closed twice")
	}
	e.closed = true
	return e.Engine.Close()
}

type nothingCounted struct{ compat.Engine }

func (nothingCounted) Stats() compat.Stats        { return compat.Stats{} }
func (nothingCounted) SizeOnDisk() (int64, error) { return 0, nil }
