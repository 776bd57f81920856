package conformance

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"nvkv/compat"
)

var lifeCases = []testCase{
	{"Reopen", reopens},
	{"UseAfterClose", useAfterClose},
	{"KilledProcess", killedProcess},
	{"FlushedProcessKilled", flushedProcessKilled},
	{"StatsCount", statsCount},
	{"SizeOnDisk", sizeOnDisk},
	{"RandomHistory", randomHistory},
}

func reopens(s *store) {
	want := make(map[string]string)
	for round := range 8 {
		for i := range 60 {
			key := fmt.Sprint((round*31 + i) % 100)
			if i%5 == 0 {
				s.del(key)
				delete(want, key)
				continue
			}
			want[key] = fmt.Sprint(round, "-", i)
			s.put(key, want[key])
		}
		s.reopen()
		s.wantAll(s, want)
	}
}

func useAfterClose(s *store) {
	s.put("k", "v")
	stats := s.Stats()
	s.must(s.Engine.Close())
	s.must(s.Engine.Close())
	dst, err := s.Get([]byte("dst"), []byte("k"))
	s.wantErr("Get", err, compat.ErrClosed)
	if string(dst) != "dst" {
		s.Errorf("Get on a closed engine left %q in dst", dst)
	}
	s.wantErr("Put", s.Put([]byte("k"), nil), compat.ErrClosed)
	s.wantErr("Delete", s.Delete([]byte("k")), compat.ErrClosed)
	s.wantErr("WriteBatch", s.WriteBatch([]compat.Op{putOp("k", "w")}), compat.ErrClosed)
	s.wantErr("empty WriteBatch", s.WriteBatch(nil), compat.ErrClosed)
	s.wantErr("Scan", s.Scan(nil, -1, neverCalled(s)), compat.ErrClosed)
	s.wantErr("Flush", s.Flush(), compat.ErrClosed)
	_, err = s.Snapshot()
	s.wantErr("Snapshot", err, compat.ErrClosed)
	_, err = s.SizeOnDisk()
	s.wantErr("SizeOnDisk", err, compat.ErrClosed)
	if got := s.Stats().UserBytes; got != stats.UserBytes {
		s.Errorf("Stats after Close: %d user bytes, want %d", got, stats.UserBytes)
	}
	s.openAgain()
	s.want(s, "k", "v")
}

// killedProcess opens a copy of the files as they are after a write returned, which is the state
// that a process killed at that moment leaves. Each kind of write comes last once.
func killedProcess(s *store) {
	if s.excused(compat.LatestMayBeLost) {
		s.Skip("excused: " + compat.LatestMayBeLost)
	}
	want := make(map[string]string)
	for i := range 30 {
		key, other := fmt.Sprint("key-", i), fmt.Sprint("key-", i/2)
		value := string(pattern(50*i, uint64(i)))
		switch i % 3 {
		case 0:
			s.put(key, value)
			want[key] = value
		case 1:
			s.del(other)
			delete(want, other)
		case 2:
			s.write(putOp(key, value), deleteOp(other), putOp("", value))
			delete(want, other)
			want[key], want[""] = value, value
		}
		wantInCopy(s, want)
	}
}

// flushedProcessKilled checks the promise of Flush, which holds in every mode.
func flushedProcessKilled(s *store) {
	want := make(map[string]string)
	for i := range 100 {
		key := fmt.Sprint(i)
		want[key] = string(pattern(10*i, uint64(i)))
		s.put(key, want[key])
	}
	s.must(s.Flush())
	wantInCopy(s, want)
}

// wantInCopy checks that a copy of the files as they are now holds want.
func wantInCopy(s *store, want map[string]string) {
	s.Helper()
	dir := s.TempDir()
	s.must(os.CopyFS(filepath.Join(dir, "copy"), os.DirFS(s.dir)))
	engine, err := s.open(filepath.Join(dir, "copy"))
	if err != nil {
		s.Fatalf("open of what a killed process leaves: %v", err)
	}
	defer func() { s.must(engine.Close()) }()
	s.wantAll(engine, want)
}

func statsCount(s *store) {
	s.put("b", "v")
	start := s.Stats()
	s.put("key", "value")
	s.del("key")
	s.write(putOp("a", "12"), deleteOp("b"))
	s.wantAbsent(s, "key")
	const user = 3 + 5 + 3 + 1 + 2 + 1
	got := s.Stats().Sub(start)
	if got.UserBytes != user {
		s.Errorf("%d user bytes, want %d", got.UserBytes, user)
	}
	if !s.excused(compat.LatestMayBeLost) && got.Fences < 3 {
		s.Errorf("%d fences for 3 durable writes", got.Fences)
	}
	s.must(s.Flush())
	got = s.Stats().Sub(start)
	if got.MediaBytes < user || got.WriteAmplification() < 1 {
		s.Errorf("%d media bytes for %d user bytes", got.MediaBytes, user)
	}
	before := s.Stats()
	s.wantErr("Put of a key too large", s.Put(make([]byte, compat.MaxKeyBytes+1), nil), compat.ErrKeyTooLarge)
	if got := s.Stats().UserBytes; got != before.UserBytes {
		s.Errorf("a failed write counted %d user bytes", got-before.UserBytes)
	}
}

func sizeOnDisk(s *store) {
	s.must(s.Flush())
	before, err := s.SizeOnDisk()
	s.must(err)
	const n, size = 64, 128 << 10
	for i := range n {
		s.put(fmt.Sprint(i), string(pattern(size, uint64(i))))
	}
	s.must(s.Flush())
	after, err := s.SizeOnDisk()
	s.must(err)
	// A store may have free space at first. It cannot hold the data in less than its size.
	if after < n*size || after < before {
		s.Errorf("%d bytes on disk before and %d after %d incompressible bytes", before, after, n*size)
	}
}

// stepsVariable is the environment variable with the number of steps of RandomHistory.
const stepsVariable = "CONFORMANCE_STEPS"

// randomHistory does the same operations on the engine and on a map.
func randomHistory(s *store) {
	const seed = 7
	steps := 2500
	if text := os.Getenv(stepsVariable); text != "" {
		var err error
		steps, err = strconv.Atoi(text)
		s.must(err)
	}
	s.Logf("seed %d, %d steps", seed, steps)
	h := &history{store: s, rng: rand.New(rand.NewPCG(seed, 0)), keys: 120 + steps/20, model: make(map[string]string)}
	for step := range steps {
		h.step(step)
	}
	s.wantAll(s, h.model)
}

// A history is an engine and its expected contents.
type history struct {
	*store
	rng   *rand.Rand
	keys  int // number of possible keys
	model map[string]string
}

func (h *history) key() string { return fmt.Sprint(h.rng.IntN(h.keys)) }

// value returns a value of up to 4 KiB, mostly short.
func (h *history) value() string {
	return string(pattern(h.rng.IntN(1<<h.rng.IntN(13)), h.rng.Uint64()))
}

func (h *history) step(i int) {
	h.Helper()
	key := h.key()
	switch p := h.rng.IntN(1000); {
	case p < 3 && i%100 < 50: // so that a history has stretches without
		h.reopen()
	case p < 6:
		h.must(h.Flush())
	case p < 150:
		h.del(key)
		delete(h.model, key)
	case p < 200:
		h.batch()
	case p < 600:
		h.model[key] = h.value()
		h.put(key, h.model[key])
	case p < 980:
		h.get(key)
	default:
		h.scanFrom(key)
	}
}

func (h *history) get(key string) {
	h.Helper()
	if value, ok := h.model[key]; ok {
		h.want(h, key, value)
		return
	}
	h.wantAbsent(h, key)
}

func (h *history) scanFrom(key string) {
	h.Helper()
	all := sorted(h.model)
	from, _ := slices.BinarySearchFunc(all, key, func(e entry, key string) int { return strings.Compare(e.key, key) })
	n := h.rng.IntN(30)
	h.wantScan(h, []byte(key), n, all[from:min(from+n, len(all))])
}

func (h *history) batch() {
	h.Helper()
	var ops []compat.Op
	for range h.rng.IntN(30) {
		key := h.key()
		if h.rng.IntN(3) == 0 {
			ops = append(ops, deleteOp(key))
			delete(h.model, key)
			continue
		}
		h.model[key] = h.value()
		ops = append(ops, putOp(key, h.model[key]))
	}
	h.write(ops...)
}
