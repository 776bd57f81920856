package compat_test

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"pgregory.net/rapid"

	"nvkv/compat"
)

// FuzzDifferential does the operations of one stream on every engine and on a sorted map, and
// compares every result. Longer runs:
//
//	go test -run '^$' -fuzz FuzzDifferential ./compat
func FuzzDifferential(f *testing.F) {
	for _, seed := range seedStreams {
		f.Add(encode(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		drive(t, fastDir(t), decode(data))
	})
}

// TestDifferentialModel does the same with streams that rapid generates and, after a failure,
// shrinks.
func TestDifferentialModel(t *testing.T) {
	dir := fastDir(t)
	run := 0
	rapid.Check(t, func(rt *rapid.T) {
		run++
		drive(rt, fmt.Sprintf("%s/%d", dir, run), rapid.SliceOfN(rapid.Custom(drawStep), 1, 80).Draw(rt, "steps"))
	})
}

// A step is one operation of a stream. Every combination of numbers is a
// valid step.
type step struct {
	kind, key, value, n byte
}

const (
	stepPut = iota
	stepDelete
	stepGet
	stepScan
	stepBatch // of the next n%8 steps, as puts and deletes
	stepSnapshot
	stepSnapshotGet
	stepSnapshotScan
	stepSnapshotClose
	stepFlush
	stepReopen
	stepKinds
)

const stepBytes = 4

// maxSteps bounds the time that one input of the fuzzer takes.
const maxSteps = 200

func decode(data []byte) []step {
	var steps []step
	for chunk := range slices.Chunk(data, stepBytes) {
		if len(chunk) < stepBytes || len(steps) == maxSteps {
			break
		}
		steps = append(steps, step{chunk[0] % stepKinds, chunk[1], chunk[2], chunk[3]})
	}
	return steps
}

func encode(steps []step) []byte {
	var data []byte
	for _, s := range steps {
		data = append(data, s.kind, s.key, s.value, s.n)
	}
	return data
}

func drawStep(t *rapid.T) step {

	return step{
		kind:  rapid.SampledFrom(stepWeights).Draw(t, "kind"),
		key:   rapid.ByteRange(0, 30).Draw(t, "key"),
		value: rapid.Byte().Draw(t, "value"),
		n:     rapid.Byte().Draw(t, "n"),
	}
}

// stepWeights repeats kinds that should be more frequent.
var stepWeights = []byte{
	stepPut, stepPut, stepPut, stepPut, stepDelete, stepDelete, stepGet, stepGet, stepScan, stepScan, stepBatch, stepBatch,
	stepSnapshot, stepSnapshotGet, stepSnapshotScan, stepSnapshotClose, stepFlush, stepReopen,
}

var seedStreams = [][]step{
	{{stepPut, 0, 0, 0}, {stepGet, 0, 0, 0}, {stepScan, 0, 0, 9}, {stepDelete, 0, 0, 0}, {stepGet, 0, 0, 0}},
	{{stepPut, 3, 5, 0}, {stepSnapshot, 0, 0, 0}, {stepPut, 3, 6, 0}, {stepDelete, 3, 0, 0}, {stepSnapshotGet, 3, 0, 0}, {stepSnapshotScan, 0, 0, 255}, {stepSnapshotClose, 0, 0, 0}},
	{{stepBatch, 0, 0, 4}, {stepPut, 1, 1, 0}, {stepDelete, 1, 0, 0}, {stepPut, 1, 2, 0}, {stepPut, 2, 9, 0}, {stepReopen, 0, 0, 0}, {stepScan, 0, 0, 255}},
	{{stepPut, 11, 250, 0}, {stepPut, 12, 251, 0}, {stepFlush, 0, 0, 0}, {stepDelete, 11, 0, 0}, {stepReopen, 0, 0, 0}, {stepScan, 7, 0, 3}},
	{{stepPut, 14, 1, 0}, {stepGet, 14, 0, 0}, {stepBatch, 0, 0, 2}, {stepPut, 2, 2, 0}, {stepPut, 14, 2, 0}, {stepGet, 2, 0, 0}},
}

// oddKeys are keys at the edges of what engines treat alike. The last is too large for all of them.
var oddKeys = [][]byte{
	{}, {0}, {0, 0}, []byte("a"), []byte("a\x00"), []byte("aa"), []byte("b"), {0xff}, {0xff, 0xff},
	bytes.Repeat([]byte("p"), 255), bytes.Repeat([]byte("p"), 256), bytes.Repeat([]byte("q"), 1100), bytes.Repeat([]byte("q"), 5000),
	bytes.Repeat([]byte("r"), 32768), bytes.Repeat([]byte("z"), compat.MaxKeyBytes+1),
}

// keyOf returns the key that b stands for. Keys of two letters share prefixes.
func keyOf(b byte) []byte {
	if int(b) < len(oddKeys) {
		return oddKeys[b]
	}
	return []byte{'a' + b%4, 'a' + b/4%8}
}

// valueOf returns a value that is different for each step i. Most are short; a few are longer than
// a page.
func valueOf(b byte, i int) []byte {
	size := int(b) % 200
	if b >= 250 {
		size = int(b-249) * 4000
	}
	if size == 0 {
		return nil
	}
	return append(fmt.Appendf(nil, "%d:", i), bytes.Repeat([]byte{b}, size)...)
}

// failer has the methods that *testing.T and *rapid.T share.
type failer interface {
	Helper()
	Fatalf(format string, args ...any)
}

// An instant is a snapshot of every engine and of the model.
type instant struct {
	readers []compat.Reader
	model   map[string]string
}

// A rig is the engines under test and their expected contents.
type rig struct {
	failer
	dir      string
	engines  []compat.Engine // in the order of compat.Names
	model    map[string]string
	instants []instant
	at       int // index of the current step
}

// drive runs steps and compares every result with the model's.
func drive(t failer, dir string, steps []step) {
	t.Helper()
	r := &rig{failer: t, dir: dir, model: make(map[string]string)}
	r.open()
	defer r.close()
	for r.at = 0; r.at < len(steps); r.at++ {
		if steps[r.at].kind == stepBatch {
			r.batch(steps)
			continue
		}
		r.run(steps[r.at])
	}
	r.compareScan(r.scanners(), r.model, nil, -1)
}

func (r *rig) open() {
	r.Helper()
	r.engines = r.engines[:0]
	for _, name := range compat.Names() {
		e, err := compat.Open(name, r.dir, compat.Options{Pebble: smallPebble})
		if err != nil {
			r.Fatalf("step %d: open %s: %v", r.at, name, err)
		}
		r.engines = append(r.engines, e)
	}
}

// smallPebble makes pebble cheap to open, and flush often.
func smallPebble(o *pebble.Options) {
	o.CacheSize = 1 << 20
	o.MemTableSize = 64 << 10
}

func (r *rig) close() {
	r.Helper()
	for i, e := range r.engines {
		r.wantNil(i, "Close", e.Close())
	}
	r.instants = nil
}

func (r *rig) run(s step) {
	r.Helper()
	key := keyOf(s.key)
	switch s.kind {
	case stepPut:
		r.put(key, valueOf(s.value, r.at))
	case stepDelete:
		for i, e := range r.engines {
			r.wantNil(i, "Delete", e.Delete(key))
		}
		delete(r.model, string(key))
	case stepGet:
		r.compareGet(r.scanners(), r.model, key)
	case stepScan:
		r.compareScan(r.scanners(), r.model, key, int(s.n)-1)
	case stepFlush:
		for i, e := range r.engines {
			r.wantNil(i, "Flush", e.Flush())
		}
	case stepReopen:
		r.close()
		r.open()
	default:
		r.runOnSnapshot(s, key)
	}
}

func (r *rig) runOnSnapshot(s step, key []byte) {
	r.Helper()
	if s.kind == stepSnapshot {
		r.snapshot()
		return
	}
	if len(r.instants) == 0 {
		return
	}
	which := int(s.value) % len(r.instants)
	in := r.instants[which]
	switch s.kind {
	case stepSnapshotGet:
		r.compareGet(asScanners(in.readers), in.model, key)
	case stepSnapshotScan:
		r.compareScan(asScanners(in.readers), in.model, key, int(s.n)-1)
	case stepSnapshotClose:
		for i, reader := range in.readers {
			r.wantNil(i, "Close of a snapshot", reader.Close())
		}
		r.instants = slices.Delete(r.instants, which, which+1)
	}
}

func (r *rig) snapshot() {
	r.Helper()
	const most = 4
	if len(r.instants) == most {
		return
	}
	in := instant{model: maps.Clone(r.model)}
	for i, e := range r.engines {
		reader, err := e.Snapshot()
		r.wantNil(i, "Snapshot", err)
		in.readers = append(in.readers, reader)
	}
	r.instants = append(r.instants, in)
}

func (r *rig) put(key, value []byte) {
	r.Helper()
	tooLarge := len(key) > compat.MaxKeyBytes
	for i, e := range r.engines {
		err := e.Put(key, value)
		if tooLarge {
			r.wantTooLarge(i, err)
			continue
		}
		r.wantNil(i, "Put", err)
	}
	if !tooLarge {
		r.model[string(key)] = string(value)
	}
}

// batch runs the steps after r.at as one batch and sets r.at to the last of them.
func (r *rig) batch(steps []step) {
	r.Helper()
	end := min(r.at+1+int(steps[r.at].n%8), len(steps))
	var ops []compat.Op
	tooLarge := false
	next := maps.Clone(r.model)
	for ; r.at+1 < end; r.at++ {
		s := steps[r.at+1]
		op := compat.Op{Key: keyOf(s.key), Delete: s.kind%2 == 1}
		if op.Delete {
			delete(next, string(op.Key))
		} else {
			op.Value = valueOf(s.value, r.at)
			next[string(op.Key)] = string(op.Value)
			tooLarge = tooLarge || len(op.Key) > compat.MaxKeyBytes
		}
		ops = append(ops, op)
	}
	for i, e := range r.engines {
		err := e.WriteBatch(ops)
		if tooLarge {
			r.wantTooLarge(i, err)
			continue
		}
		r.wantNil(i, "WriteBatch", err)
	}
	if !tooLarge {
		r.model = next
	}
}

// scanner has the methods that engines and snapshots share.
type scanner interface {
	Get(dst, key []byte) ([]byte, error)
	Scan(start []byte, n int, fn func(key, value []byte) bool) error
}

func (r *rig) scanners() []scanner {
	return asScanners(r.engines)
}

func asScanners[T scanner](from []T) []scanner {
	to := make([]scanner, len(from))
	for i, s := range from {
		to[i] = s
	}
	return to
}

func (r *rig) compareGet(from []scanner, model map[string]string, key []byte) {
	r.Helper()
	want, present := model[string(key)]
	for i, s := range from {
		got, err := s.Get([]byte("dst"), key)
		if !present {
			if !errors.Is(err, compat.ErrNotFound) || string(got) != "dst" {
				r.Fatalf("step %d: %s: Get(%.20q) = %.20q, %v, want ErrNotFound", r.at, compat.Names()[i], key, got, err)
			}
			continue
		}
		if err != nil || string(got) != "dst"+want {
			r.Fatalf("step %d: %s: Get(%.20q) = %.20q, %v, want %.20q", r.at, compat.Names()[i], key, got, err, want)
		}
	}
}

func (r *rig) compareScan(from []scanner, model map[string]string, start []byte, n int) {
	r.Helper()
	want := listing(model, start, n)
	for i, s := range from {
		var got strings.Builder
		err := s.Scan(start, n, func(key, value []byte) bool {
			fmt.Fprintf(&got, "%q=%q\n", key, value)
			return true
		})
		if err != nil || got.String() != want {
			r.Fatalf("step %d: %s: Scan(%.20q, %d): %v\n%s\nwant\n%s", r.at, compat.Names()[i], start, n, err, got.String(), want)
		}
	}
}

// listing returns the expected result of a scan, one entry per line.
func listing(model map[string]string, start []byte, n int) string {
	var all strings.Builder
	for _, key := range slices.Sorted(maps.Keys(model)) {
		if n == 0 {
			break
		}
		if key < string(start) {
			continue
		}
		fmt.Fprintf(&all, "%q=%q\n", key, model[key])
		n--
	}
	return all.String()
}

func (r *rig) wantNil(i int, what string, err error) {
	r.Helper()
	if err != nil {
		r.Fatalf("step %d: %s: %s: %v", r.at, compat.Names()[i], what, err)
	}
}

func (r *rig) wantTooLarge(i int, err error) {
	r.Helper()
	if !errors.Is(err, compat.ErrKeyTooLarge) {
		r.Fatalf("step %d: %s: error %v, want ErrKeyTooLarge", r.at, compat.Names()[i], err)
	}
}

// fastDir returns a directory in memory, if possible. It is removed after the test.
func fastDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "nvkv-compat-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}
