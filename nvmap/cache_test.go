package nvmap_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"nvkv/nvmap"
	"nvkv/nvmap/nvmaptest"
)

// unmapped hides the mapping of a device.
type unmapped struct{ nvmap.Device }

func (unmapped) Mapping() []byte { return nil }

func (d unmapped) Info() nvmap.Info {
	info := d.Device.Info()
	info.Mapped = false
	return info
}

func policyNamed(t testing.TB, name string) nvmap.Policy {
	t.Helper()
	p, err := nvmap.NewPolicy(name)
	must(t, err)
	return p
}

func TestPolicies(t *testing.T) {
	for _, name := range nvmap.Policies() {
		t.Run(name, func(t *testing.T) {
			nvmaptest.TestPolicy(t, func() nvmap.Policy { return policyNamed(t, name) })
		})
	}
	t.Run("spitfire over s3fifo", func(t *testing.T) {
		nvmaptest.TestPolicy(t, func() nvmap.Policy { return nvmap.Spitfire(policyNamed(t, "s3fifo"), 0.1, 0.5) })
	})
	if _, err := nvmap.NewPolicy("lru"); err == nil {
		t.Error("there is no policy lru")
	}
}

func TestCacheOptions(t *testing.T) {
	for what, o := range map[string]nvmap.MapOptions{
		"a bound below the least":    {CacheBytes: 1000},
		"a policy without a bound":   {Policy: policyNamed(t, "clock")},
		"huge pages under a bound":   {CacheBytes: 1 << 20, HugeFrames: true},
		"a mode that does not exist": {Mode: 17},
	} {
		if m, err := nvmap.NewMap(nvmap.NewMem(1<<20), &o); err == nil {
			t.Errorf("%s is taken", what)
			m.Close()
		}
	}
	if _, err := nvmap.NewMap(unmapped{nvmap.NewMem(1 << 20)}, &nvmap.MapOptions{Mode: nvmap.Direct}); err == nil {
		t.Error("a device that is not mapped is used directly")
	}
}

// modeMap makes a map of 4 MiB with a cache of 1 MiB.
func modeMap(t testing.TB, dev nvmap.Device, mode nvmap.Mode, policy string) *nvmap.Map {
	t.Helper()
	m, err := nvmap.NewMap(dev, &nvmap.MapOptions{CacheBytes: 1 << 20, Policy: policyNamed(t, policy), Mode: mode})
	must(t, err)
	must(t, m.Grow(4<<20))
	t.Cleanup(func() { m.Close() })
	return m
}

// TestModes checks that every mode with every policy returns the same bytes.
func TestModes(t *testing.T) {
	for _, policy := range nvmap.Policies() {
		for _, mode := range []nvmap.Mode{nvmap.Cached, nvmap.Direct, nvmap.DirectProtect} {
			t.Run(fmt.Sprint(policy, " ", mode), func(t *testing.T) {
				m := modeMap(t, nvmap.NewMem(8<<20), mode, policy)
				model := nvmaptest.Bytes(t, m, uint64(mode), 10_000)
				onMedium(t, m, model)
			})
		}
		t.Run(policy+" not mapped", func(t *testing.T) {
			m := modeMap(t, unmapped{nvmap.NewMem(8 << 20)}, nvmap.Cached, policy)
			onMedium(t, m, nvmaptest.Bytes(t, m, 9, 10_000))
		})
	}
}

// onMedium checks that after a Sync the device has the stored bytes.
func onMedium(t *testing.T, m *nvmap.Map, model []byte) {
	t.Helper()
	must(t, m.Sync())
	got := make([]byte, len(model))
	must(t, m.Device().Read(0, got))
	if !bytes.Equal(got, model) {
		t.Error("after Sync the device differs from what was stored")
	}
	if n := m.Stats().DirtyFrames; n != 0 {
		t.Errorf("%d dirty frames after Sync", n)
	}
}

// TestSwitchModes changes the mode of a map repeatedly under load.
func TestSwitchModes(t *testing.T) {
	m := modeMap(t, nvmap.NewMem(8<<20), nvmap.Cached, "2q")
	stop := make(chan struct{})
	var switcher sync.WaitGroup
	switcher.Go(func() {
		for mode := nvmap.Mode(0); ; mode = (mode + 1) % 3 {
			select {
			case <-stop:
				return
			default:
			}
			if err := m.SetMode(nvmap.Cached + mode); err != nil {
				t.Error(err)
			}
			time.Sleep(50 * time.Microsecond)
		}
	})
	model := nvmaptest.Bytes(t, m, 5, 30_000)
	close(stop)
	switcher.Wait()
	onMedium(t, m, model)
	if m.SetMode(nvmap.InPlace) == nil || m.SetMode(99) == nil {
		t.Error("a map is switched to a mode that it cannot have")
	}
}

// TestModesCrash checks that after Sync every image of a power failure has the bytes stored before,
// and that a map over it continues to work.
func TestModesCrash(t *testing.T) {
	for _, mode := range []nvmap.Mode{nvmap.Cached, nvmap.Direct, nvmap.DirectProtect} {
		t.Run(mode.String(), func(t *testing.T) {
			sim := nvmap.NewSim(nvmap.NewMem(8 << 20))
			m := modeMap(t, sim, mode, "s3fifo")
			model := make([]byte, m.Size())
			for round := range uint64(6) {
				nvmaptest.Continue(t, m, model, round, 500)
				must(t, m.Sync())
				crashed := sim.Crash(round)
				again, err := nvmap.NewMap(crashed, &nvmap.MapOptions{CacheBytes: 1 << 20, Mode: mode})
				must(t, err)
				nvmaptest.Continue(t, again, bytes.Clone(model), round+50, 200)
				must(t, again.Load(0, make([]byte, 1)))
				must(t, again.Close())
				got := make([]byte, len(model))
				fresh := sim.Crash(round + 100)
				must(t, fresh.Read(0, got))
				if !bytes.Equal(got, model) {
					t.Fatalf("round %d: bytes stored before Sync are gone after a power failure", round)
				}
				must(t, fresh.Close())
			}
		})
	}
}

// TestEvictionIsDurable checks that a frame is given back only when its bytes are durable on the
// device. Otherwise a later power failure would bring back older bytes.
func TestEvictionIsDurable(t *testing.T) {
	sim := nvmap.NewSim(nvmap.NewMem(8 << 20))
	m := modeMap(t, sim, nvmap.Cached, "clock")
	page := make([]byte, nvmap.PageBytes)
	pages := nvmap.PageID(m.Size() / nvmap.PageBytes)
	for p := range pages {
		page[0] = byte(p) | 1
		must(t, m.Store(p.Off(), page))
	}
	crashed := sim.Crash(1)
	defer crashed.Close()
	evicted := 0
	for p := range pages {
		if m.Where(p) != nvmap.OnDevice {
			continue
		}
		evicted++
		var got [1]byte
		must(t, crashed.Read(p.Off(), got[:]))
		if got[0] != byte(p)|1 {
			t.Fatalf("page %d has no frame, and the medium may lose it", p)
		}
	}
	if evicted < int(pages)/2 {
		t.Errorf("only %d of %d pages were evicted", evicted, pages)
	}
}

// TestStoresBeside has goroutines store to their own words of shared pages while others load them.
// No store may be lost, and no load may see half of one.
func TestStoresBeside(t *testing.T) {
	for _, dev := range []nvmap.Device{nvmap.NewMem(8 << 20), unmapped{nvmap.NewMem(8 << 20)}} {
		m := modeMap(t, dev, nvmap.Cached, "s3fifo")
		const pages, writers, rounds = 1000, 2, 4
		var all sync.WaitGroup
		for w := range writers {
			all.Go(func() {
				rng := rand.New(rand.NewPCG(uint64(w), 1))
				for round := range rounds {
					for _, p := range rng.Perm(pages) {
						b := bytes.Repeat([]byte{byte(round + 1)}, 64)
						if err := m.Store(nvmap.PageID(p).Off()+nvmap.Off(w*1024), b); err != nil {
							t.Error(err)
						}
						if p%16 == 0 && m.Device().Mapping() != nil {
							_ = m.SetMode(nvmap.Cached + nvmap.Mode(rng.IntN(3)))
						}
					}
				}
			})
			all.Go(func() {
				rng := rand.New(rand.NewPCG(uint64(w), 2))
				var b [64]byte
				for range pages * rounds {
					if err := m.Load(nvmap.PageID(rng.IntN(pages)).Off()+nvmap.Off(w*1024), b[:]); err != nil {
						t.Error(err)
					}
					if b != [64]byte(bytes.Repeat(b[:1], 64)) {
						t.Errorf("half of a store: %x", b)
						return
					}
				}
			})
		}
		all.Wait()
		var b [1]byte
		for p := range nvmap.PageID(pages) {
			for w := range writers {
				must(t, m.Load(p.Off()+nvmap.Off(w*1024), b[:]))
				if b[0] != rounds {
					t.Fatalf("page %d, writer %d: %d is the last store", p, w, b[0])
				}
			}
		}
	}
}

// TestDirectCopiesNothing checks that reading clean pages in mode Direct makes no frame (N3).
func TestDirectCopiesNothing(t *testing.T) {
	for _, mode := range []nvmap.Mode{nvmap.Direct, nvmap.DirectProtect} {
		m := modeMap(t, nvmap.NewMem(8<<20), mode, "clock")
		var b [100]byte
		for p := range nvmap.PageID(1000) {
			must(t, m.Load(p.Off(), b[:]))
		}
		if s := m.Stats(); s.Direct != 1000 || s.Fills != 0 || s.Frames != 0 {
			t.Errorf("%v: %d reads in place, %d pages copied, %d frames", mode, s.Direct, s.Fills, s.Frames)
		}
		must(t, m.Store(0, b[:]))
		if s := m.Stats(); (s.Frames == 1) != (mode == nvmap.DirectProtect) {
			t.Errorf("%v: %d frames after a write", mode, s.Frames)
		}
	}
}

// TestFailedWriteBack checks that a page that cannot be written back keeps its frame, and that a
// caller gets the error.
func TestFailedWriteBack(t *testing.T) {
	sim := nvmap.NewSim(nvmap.NewMem(8 << 20))
	m := modeMap(t, sim, nvmap.Cached, "clock")
	must(t, m.Store(0, []byte("kept")))
	injected := errors.New("injected")
	sim.FailWrite(1, injected)
	if err := m.Sync(); !errors.Is(err, injected) {
		t.Fatalf("Sync: %v", err)
	}
	var b [4]byte
	must(t, m.Load(0, b[:]))
	if string(b[:]) != "kept" || m.Where(0) != nvmap.FrameDirty {
		t.Errorf("after a failed write-back the page has %q, and is on %v", b, m.Where(0))
	}
	must(t, m.Sync())
	if m.Where(0) != nvmap.FrameClean {
		t.Errorf("after Sync the page is on %v", m.Where(0))
	}
}

// TestDelay checks that each access to the device takes at least the time that SetDelay set.
func TestDelay(t *testing.T) {
	m := modeMap(t, nvmap.NewMem(8<<20), nvmap.Direct, "clock")
	m.SetDelay(200 * time.Microsecond)
	began := time.Now()
	var b [8]byte
	for i := range nvmap.Off(20) {
		must(t, m.Load(i*nvmap.PageBytes, b[:]))
	}
	if took := time.Since(began); took < 20*200*time.Microsecond {
		t.Errorf("20 accesses took %v", took)
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
