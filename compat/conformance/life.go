package conformance

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"

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

// killedProcess opens a copy of the files as they are after a write returned,
// which is what a process killed at that moment leaves. Each kind of write is
// the last one in its turn.
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

// flushedProcessKilled is the promise that Flush makes in every mode.
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

// wantInCopy checks that the files, copied now, hold want.
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
	// A store may hold free space from the start; it cannot hold the data in less than its size.
	if after < n*size || after < before {
		s.Errorf("%d bytes on disk before and %d after %d incompressible bytes", before, after, n*size)
	}
}

// randomHistory drives the engine and a map with the same operations.
func randomHistory(s *store) {
	const seed, steps = 7, 2500
	s.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	model := make(map[string]string)
	for step := range steps {
		key := fmt.Sprint(rng.IntN(120))
		switch p := rng.IntN(1000); {
		case p < 5:
			s.reopen()
		case p < 15:
			s.must(s.Flush())
		case p < 150:
			s.del(key)
			delete(model, key)
		case p < 200:
			randomBatch(s, rng, model)
		case p < 600:
			model[key] = string(pattern(rng.IntN(1<<rng.IntN(13)), uint64(step)))
			s.put(key, model[key])
		case p < 900:
			if value, ok := model[key]; ok {
				s.want(s, key, value)
			} else {
				s.wantAbsent(s, key)
			}
		default:
			all := sorted(model)
			from := rng.IntN(len(all) + 1)
			n := rng.IntN(30)
			if from < len(all) {
				s.wantScan(s, []byte(all[from].key), n, all[from:min(from+n, len(all))])
			}
		}
	}
	s.wantAll(s, model)
}

func randomBatch(s *store, rng *rand.Rand, model map[string]string) {
	var ops []compat.Op
	for range rng.IntN(30) {
		key := fmt.Sprint(rng.IntN(120))
		if rng.IntN(3) == 0 {
			ops = append(ops, deleteOp(key))
			delete(model, key)
			continue
		}
		model[key] = string(pattern(rng.IntN(300), rng.Uint64()))
		ops = append(ops, putOp(key, model[key]))
	}
	s.write(ops...)
}
