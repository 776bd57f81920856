package nvkvraft

import (
	"maps"
	"math/rand/v2"
	"reflect"
	"testing"

	"github.com/hashicorp/raft"
	"nvkv/internal/effort"
	"nvkv/kv"
	"nvkv/nvmap"
)

const crashMediumBytes = 16 << 20

// logAt returns the log on a device.
func logAt(dev nvmap.Device) (*Store, error) {
	o := &Options{NoMetrics: true}
	db, err := kv.OpenDevice(dev, o.store())
	if err != nil {
		return nil, err
	}
	return over(db, o)
}

// contents reads all entries of a log.
func contents(s *Store) (map[uint64]*raft.Log, error) {
	m := map[uint64]*raft.Log{}
	first, _ := s.FirstIndex()
	last, _ := s.LastIndex()
	for i := first; i <= last && i != 0; i++ {
		l := new(raft.Log)
		if err := s.GetLog(i, l); err == nil {
			m[i] = l
		} else if err != raft.ErrLogNotFound {
			return nil, err
		}
	}
	return m, nil
}

// TestCrashAtEveryFence opens crash images taken at the fences of a run. Each holds the log as it
// was before the operation under way or as it is afterwards, and the commit index with it.
func TestCrashAtEveryFence(t *testing.T) {
	images := 0
	for seed := range uint64(effort.Pick(1, 2, 10, 60)) {
		r := rand.New(rand.NewPCG(seed, 5))
		dev := nvmap.NewSim(nvmap.NewMem(crashMediumBytes))
		s, err := logAt(dev)
		if err != nil {
			t.Fatal(err)
		}
		before, after := map[uint64]*raft.Log{}, map[uint64]*raft.Log{}
		staged, storing := uint64(0), false
		check := func() {
			images++
			image, err := logAt(dev.Crash(seed + uint64(images)))
			if err != nil {
				t.Fatalf("seed %d, image %d: %v", seed, images, err)
			}
			defer image.Close()
			got, err := contents(image)
			if err != nil {
				t.Fatalf("seed %d, image %d: %v", seed, images, err)
			}
			old, new := reflect.DeepEqual(got, before), reflect.DeepEqual(got, after)
			if !old && !new {
				t.Fatalf("seed %d, image %d: %d entries, neither the %d before nor the %d after", seed, images, len(got), len(before), len(after))
			}
			last, _ := image.LastIndex()
			c, err := image.GetCommitIndex()
			if err != nil || c > last || c > staged {
				t.Fatalf("seed %d, image %d: commit index %d of %d entries: %v", seed, images, c, last, err)
			}
			if storing && new && !old && c != min(staged, last) {
				t.Fatalf("seed %d, image %d: commit index %d, want %d", seed, images, c, min(staged, last))
			}
		}
		dev.OnFence(check)
		next := uint64(1)
		for step := range uint64(effort.Pick(12, 25, 40, 60)) {
			before = maps.Clone(after)
			var do func() error
			if storing = r.IntN(3) > 0 || next == 1; storing {
				logs := logsOf(next, next+r.Uint64N(60), seed<<32+step)
				for _, l := range logs {
					after[l.Index] = l
				}
				next = logs[len(logs)-1].Index + 1
				staged = max(staged, next-min(next, 10))
				if err := s.StageCommitIndex(staged); err != nil {
					t.Fatal(err)
				}
				do = func() error { return s.StoreLogs(logs) }
			} else {
				low, high := uint64(0), r.Uint64N(next)
				if r.IntN(2) == 0 {
					low, high = 1+high, next
				}
				for i := range after {
					if i >= low && i <= high {
						delete(after, i)
					}
				}
				next = 1
				for i := range after {
					next = max(next, i+1)
				}
				do = func() error { return s.DeleteRange(low, high) }
			}
			if err := do(); err != nil {
				t.Fatalf("seed %d, step %d: %v", seed, step, err)
			}
			before = after
			check()
		}
		dev.OnFence(func() {})
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%d images", images)
}
