package nvkvraft

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-metrics"
	"github.com/hashicorp/raft"
	"nvkv/internal/effort"
	"nvkv/kv"
)

// openLog opens a log that is closed at the end of the test.
func openLog(t testing.TB, path string, o *Options) *Store {
	t.Helper()
	s, err := Open(path, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func newLog(t testing.TB) *Store { return openLog(t, filepath.Join(effort.Dir(t), "raft.nv"), nil) }

// oneLog returns an entry whose content follows from index and seed.
func oneLog(index, seed uint64) *raft.Log {
	r := rand.New(rand.NewPCG(index, seed))
	l := &raft.Log{Index: index, Term: r.Uint64N(1 << r.UintN(63)), Type: raft.LogType(r.UintN(6))}
	bytesOf := func(n int) []byte {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(r.Uint32())
		}
		return b
	}
	if n := r.IntN(700); n > 20 {
		l.Data = bytesOf(n)
	}
	if r.IntN(40) == 0 {
		l.Data = bytesOf(chunkBytes + r.IntN(30000))
	}
	if n := r.IntN(40) - 20; n > 0 {
		l.Extensions = bytesOf(n)
	}
	if r.IntN(2) == 0 {
		l.AppendedAt = time.Unix(r.Int64N(1<<33), r.Int64N(1e9)).UTC()
	}
	return l
}

func logsOf(from, to, seed uint64) (logs []*raft.Log) {
	for i := from; i <= to; i++ {
		logs = append(logs, oneLog(i, seed))
	}
	return logs
}

// compare checks the whole of a log against a model of it.
func compare(t *testing.T, s *Store, model map[uint64]*raft.Log, highest uint64) {
	t.Helper()
	var first, last uint64
	for i := range model {
		if first == 0 || i < first {
			first = i
		}
		last = max(last, i)
	}
	if f, _ := s.FirstIndex(); f != first {
		t.Fatalf("first index is %d, want %d", f, first)
	}
	if l, _ := s.LastIndex(); l != last {
		t.Fatalf("last index is %d, want %d", l, last)
	}
	for i := range highest + 2 {
		got := &raft.Log{Index: 99, Extensions: []byte("stale")}
		err := s.GetLog(i, got)
		if want, ok := model[i]; !ok {
			if err != raft.ErrLogNotFound {
				t.Fatalf("entry %d: %v, want ErrLogNotFound", i, err)
			}
		} else if err != nil || !reflect.DeepEqual(got, want) {
			t.Fatalf("entry %d: %v, is\n%+v, want\n%+v", i, err, got, want)
		}
	}
}

// TestModel does random operations on a log and on a map, and reopens the log now and then.
func TestModel(t *testing.T) {
	for seed := range uint64(effort.Pick(1, 6, 30, 200)) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 18))
			path := filepath.Join(effort.Dir(t), "raft.nv")
			s := openLog(t, path, &Options{NoMetrics: true, PrewriteBytes: -1})
			model := map[uint64]*raft.Log{}
			next, highest := uint64(1), uint64(0)
			for step := range 120 {
				switch r.IntN(8) {
				case 0, 1, 2, 3: // as raft does
					logs := logsOf(next, next+r.Uint64N(90), seed+uint64(step)<<8)
					if err := s.StoreLogs(logs); err != nil {
						t.Fatal(err)
					}
					for _, l := range logs {
						model[l.Index] = l
					}
				case 4: // the prefix, the suffix or the middle
					low, high := r.Uint64N(next+1), r.Uint64N(next+1)
					switch r.IntN(4) {
					case 0:
						low = 0
					case 1:
						high = next - 1
					case 2:
						high = ^uint64(0)
					}
					if err := s.DeleteRange(low, high); err != nil {
						t.Fatal(err)
					}
					for i := range model {
						if i >= low && i <= high {
							delete(model, i)
						}
					}
				case 5: // with gaps, out of order, over what is there
					var logs []*raft.Log
					for range r.IntN(9) {
						l := oneLog(1+r.Uint64N(next+20), seed+uint64(step)<<8)
						model[l.Index] = l
						logs = append(logs, l)
					}
					if err := s.StoreLogs(logs); err != nil {
						t.Fatal(err)
					}
				case 6:
					if err := s.Close(); err != nil {
						t.Fatal(err)
					}
					s = openLog(t, path, &Options{NoMetrics: true, PrewriteBytes: -1})
				}
				next = 1
				for i := range model {
					next = max(next, i+1)
				}
				highest = max(highest, next)
				if step%10 == 9 {
					compare(t, s, model, highest)
				}
			}
		})
	}
}

// TestOneFence checks the cost of each call in fences and in records.
func TestOneFence(t *testing.T) {
	s := newLog(t)
	if err := s.StoreLogs(logsOf(1, 500, 1)); err != nil { // growth has fences of its own
		t.Fatal(err)
	}
	if err := s.DeleteRange(100, 500); err != nil {
		t.Fatal(err)
	}
	fences := func(what string, fn func() error) {
		before := s.Metrics().Fences
		if err := fn(); err != nil {
			t.Fatal(err)
		}
		if n := s.Metrics().Fences - before; n != 1 {
			t.Errorf("%s: %d fences, want 1", what, n)
		}
	}
	small := func(from, to uint64) (logs []*raft.Log) {
		for i := from; i <= to; i++ {
			logs = append(logs, &raft.Log{Index: i, Data: make([]byte, 100)})
		}
		return logs
	}
	fences("one entry", func() error { return s.StoreLogs(small(100, 100)) })
	_ = s.StageCommitIndex(100)
	fences("64 entries and a commit index", func() error { return s.StoreLogs(small(101, 164)) })
	fences("a range", func() error { return s.DeleteRange(1, 120) })
	before := s.Metrics().Puts
	if err := s.StoreLogs(small(165, 228)); err != nil {
		t.Fatal(err)
	}
	if n := s.Metrics().Puts - before; n > 2 {
		t.Errorf("64 entries of 100 bytes took %d records", n)
	}
}

// TestPrewrite: the space is there after Open, holds nothing, and appends use it.
func TestPrewrite(t *testing.T) {
	path := filepath.Join(effort.Dir(t), "raft.nv")
	s := openLog(t, path, &Options{PrewriteBytes: 4 << 20})
	m := s.Metrics()
	if m.FreeBytes < 4<<20 || m.Keys != 1 {
		t.Fatalf("%d bytes free, %d keys", m.FreeBytes, m.Keys)
	}
	if err := s.StoreLogs(logsOf(1, 2000, 1)); err != nil {
		t.Fatal(err)
	}
	if got := s.Metrics().DeviceBytes; got != m.DeviceBytes {
		t.Errorf("the store grew from %d to %d bytes beside free ones", m.DeviceBytes, got)
	}
	// What an opening left that was cut off is removed by the next.
	if err := errors.Join(s.db.Put([]byte{'p', 9}, make([]byte, 1<<20)), s.Close()); err != nil {
		t.Fatal(err)
	}
	s = openLog(t, path, &Options{PrewriteBytes: 8 << 20})
	if found, err := s.db.Has([]byte{'p', 9}); found || err != nil {
		t.Fatal(found, err)
	}
	if last, _ := s.LastIndex(); last != 2000 {
		t.Fatal(last)
	}
}

func TestCommitIndex(t *testing.T) {
	path := filepath.Join(effort.Dir(t), "raft.nv")
	s := openLog(t, path, nil)
	want := func(n uint64) {
		t.Helper()
		if got, err := s.GetCommitIndex(); err != nil || got != n {
			t.Fatalf("commit index %d, %v; want %d", got, err, n)
		}
	}
	store := func(from, to uint64) {
		t.Helper()
		if err := s.StoreLogs(logsOf(from, to, 1)); err != nil {
			t.Fatal(err)
		}
	}
	want(0)
	store(1, 3)
	want(0)
	if err := s.StageCommitIndex(2); err != nil {
		t.Fatal(err)
	}
	want(0) // staged is not stored
	store(4, 5)
	want(2)
	if err := s.StageCommitIndex(1000); err != nil {
		t.Fatal(err)
	}
	store(6, 7)
	want(7) // never above the log
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = openLog(t, path, nil)
	want(7)
	if err := s.DeleteRange(5, 7); err != nil {
		t.Fatal(err)
	}
	want(2)
	store(5, 5) // nothing was staged since the store was opened
	want(0)
	if err := s.DeleteRange(0, 100); err != nil {
		t.Fatal(err)
	}
	want(0)
}

func TestStable(t *testing.T) {
	s := newLog(t)
	if _, err := s.Get([]byte("a")); err != ErrKeyNotFound || err.Error() != "not found" {
		t.Fatal(err)
	}
	if _, err := s.GetUint64([]byte("a")); err != ErrKeyNotFound {
		t.Fatal(err)
	}
	if err := errors.Join(s.Set([]byte("a"), nil), s.SetUint64([]byte("n"), 1<<60)); err != nil {
		t.Fatal(err)
	}
	if v, err := s.Get([]byte("a")); err != nil || len(v) != 0 {
		t.Fatal(v, err)
	}
	if v, err := s.GetUint64([]byte("n")); err != nil || v != 1<<60 {
		t.Fatal(v, err)
	}
	if _, err := s.GetUint64([]byte("a")); err == nil {
		t.Fatal("a value of no bytes is no number")
	}
	if last, _ := s.LastIndex(); last != 0 {
		t.Fatal("a setting counts as an entry")
	}
}

func TestOpenRefuses(t *testing.T) {
	path := filepath.Join(effort.Dir(t), "other.nv")
	db, err := kv.Open(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(db.Put([]byte("key"), nil), db.Close()); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(path, nil); !errors.Is(err, ErrNotLog) {
		t.Fatalf("a store of something else: %v", err)
	}
	log := filepath.Join(effort.Dir(t), "raft.nv")
	s := openLog(t, log, nil)
	if _, err := Open(log, nil); !errors.Is(err, kv.ErrLocked) {
		t.Fatalf("a log that is open: %v", err)
	}
	if err := errors.Join(s.StoreLog(oneLog(1, 1)), s.Close()); err != nil {
		t.Fatal(err)
	}
	s = openLog(t, log, &Options{ReadOnly: true})
	if err := s.GetLog(1, new(raft.Log)); err != nil {
		t.Fatal(err)
	}
	if err := s.StoreLog(oneLog(2, 1)); !errors.Is(err, kv.ErrReadOnly) {
		t.Fatalf("storing into a log that is open read-only: %v", err)
	}
}

// TestReadersBeside reads entries while others are stored and deleted: a reader gets the entry
// or ErrLogNotFound, and after a deletion ended never the deleted one.
func TestReadersBeside(t *testing.T) {
	s := newLog(t)
	const rounds = 60
	var wg sync.WaitGroup
	stop := make(chan struct{})
	for g := range 2 {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(uint64(g), 3))
			for {
				select {
				case <-stop:
					return
				default:
				}
				i := 1 + r.Uint64N(300)
				var l raft.Log
				if err := s.GetLog(i, &l); err == nil && l.Index != i {
					t.Errorf("entry %d has index %d", i, l.Index)
				} else if err != nil && err != raft.ErrLogNotFound {
					t.Error(err)
				}
			}
		})
	}
	for round := range uint64(rounds) {
		logs := logsOf(1, 100, round)
		if err := s.StoreLogs(logs); err != nil {
			t.Fatal(err)
		}
		var l raft.Log
		if err := s.GetLog(50, &l); err != nil || !reflect.DeepEqual(&l, logs[49]) {
			t.Fatalf("round %d: %v", round, err)
		}
		if err := s.DeleteRange(1, 100); err != nil {
			t.Fatal(err)
		}
		if err := s.GetLog(50, &l); err != raft.ErrLogNotFound {
			t.Fatalf("round %d: a deleted entry: %v", round, err)
		}
	}
	close(stop)
	wg.Wait()
}

func TestMetrics(t *testing.T) {
	sink := metrics.NewInmemSink(time.Hour, time.Hour)
	config := metrics.DefaultConfig("")
	config.EnableHostname, config.EnableRuntimeMetrics = false, false
	m, err := metrics.New(config, sink)
	if err != nil {
		t.Fatal(err)
	}
	s := openLog(t, filepath.Join(effort.Dir(t), "raft.nv"), &Options{Metrics: m})
	if err := errors.Join(s.StoreLogs(logsOf(1, 9, 1)), s.GetLog(3, new(raft.Log)), s.DeleteRange(1, 2)); err != nil {
		t.Fatal(err)
	}
	s.report()
	data := sink.Data()[0]
	var samples []string
	for name := range data.Samples {
		samples = append(samples, name)
	}
	slices.Sort(samples)
	want := []string{"raft.nvkv.deleteRange", "raft.nvkv.getLog", "raft.nvkv.logBatchSize", "raft.nvkv.logSize",
		"raft.nvkv.logsPerBatch", "raft.nvkv.storeLogs", "raft.nvkv.writeCapacity"}
	if !slices.Equal(samples, want) {
		t.Errorf("samples are %q", samples)
	}
	if g := data.PrecisionGauges["raft.nvkv.entries"]; g.Value != 7 {
		t.Errorf("entries: %v", g.Value)
	}
}

func TestImportRefuses(t *testing.T) {
	dir := effort.Dir(t)
	to := filepath.Join(dir, "raft.nv")
	if err := os.WriteFile(filepath.Join(dir, "x"), bytes.Repeat([]byte("no bolt file"), 999), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := ImportBolt(t.Context(), to, filepath.Join(dir, "x"), nil); err == nil {
		t.Fatal("imported what is no bbolt file")
	}
	if _, err := os.Lstat(to); err == nil {
		t.Fatal("a failed import left a store")
	}
	if err := ImportBolt(t.Context(), filepath.Join(dir, "x"), filepath.Join(dir, "x"), nil); !errors.Is(err, os.ErrExist) {
		t.Fatal(err)
	}
}

func FuzzEntry(f *testing.F) {
	for i := range uint64(9) {
		f.Add(i, appendEntry(nil, oneLog(i, 1), i/2))
	}
	f.Fuzz(func(t *testing.T, index uint64, b []byte) {
		c, err := parseChunk(index, b)
		if err == nil {
			for i := range c.count {
				_, start, end := c.find(index + i)
				_ = b[start:end]
			}
		}
		var l raft.Log
		commit, err := readEntry(&l, index, b)
		if err != nil {
			return
		}
		if commit > index {
			t.Fatalf("commit index %d above %d", commit, index)
		}
		var again raft.Log
		commit2, err := readEntry(&again, index, appendEntry(nil, &l, commit))
		if err != nil || commit2 != commit || !reflect.DeepEqual(again, l) {
			t.Fatalf("%v, %d and %d, %+v and %+v", err, commit, commit2, l, again)
		}
	})
}
