package nvmap_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"

	"nvkv/internal/effort"
	"nvkv/nvmap"
	"nvkv/nvmap/nvmaptest"
)

// slowDisk is a device without a mapping that counts its reads. It calls during while a batch is in
// flight, after the bytes of the batch were read.
type slowDisk struct {
	nvmap.Device
	singles, batches, pages atomic.Int64
	during                  func(reqs []nvmap.PageRead)
	bad                     nvmap.PageID // page that cannot be read; 0: none
}

var errBad = errors.New("bad page")

func newSlowDisk(t *testing.T, bytes int64) *slowDisk {
	t.Helper()
	d := &slowDisk{Device: nvmap.NewMem(bytes)}
	must(t, d.Grow(bytes))
	page := make([]byte, nvmap.PageBytes)
	for p := range nvmap.PageID(bytes / nvmap.PageBytes) {
		binary.LittleEndian.PutUint64(page, uint64(p))
		must(t, d.Write(p.Off(), page))
	}
	return d
}

func (d *slowDisk) Mapping() []byte { return nil }

func (d *slowDisk) Read(off nvmap.Off, p []byte) error {
	d.singles.Add(1)
	if d.bad != 0 && off.Page() <= d.bad && d.bad.Off() < off+nvmap.Off(len(p)) {
		return errBad
	}
	return d.Device.Read(off, p)
}

func (d *slowDisk) ReadBatch(reqs []nvmap.PageRead) error {
	d.batches.Add(1)
	d.pages.Add(int64(len(reqs)))
	var first error
	for i := range reqs {
		r := &reqs[i]
		if r.Err = d.Device.Read(r.Page.Off(), r.Buf); r.Page == d.bad && d.bad != 0 {
			r.Err = errBad
		}
		first = errors.Join(first, r.Err)
	}
	if d.during != nil {
		d.during(reqs)
	}
	return first
}

func (d *slowDisk) reset() {
	d.singles.Store(0)
	d.batches.Store(0)
	d.pages.Store(0)
}

func cachedMap(t *testing.T, d nvmap.Device, cacheBytes int64) *nvmap.Map {
	t.Helper()
	m, err := nvmap.NewMap(d, &nvmap.MapOptions{CacheBytes: cacheBytes, Mode: nvmap.Cached})
	must(t, err)
	t.Cleanup(func() { must(t, m.Close()) })
	return m
}

// TestReadInOrder checks that pages that are read in order are read in batches, by one reader and
// by two at different places, and that pages read in random order are not.
func TestReadInOrder(t *testing.T) {
	const pages = 2048
	d := newSlowDisk(t, pages*nvmap.PageBytes)
	read := func(m *nvmap.Map, p nvmap.PageID) {
		t.Helper()
		var b [8]byte
		must(t, m.Load(p.Off(), b[:]))
		if got := binary.LittleEndian.Uint64(b[:]); got != uint64(p) {
			t.Fatalf("page %d reads %d", p, got)
		}
	}
	for name, order := range map[string]func(i int) nvmap.PageID{
		"one stream":  func(i int) nvmap.PageID { return nvmap.PageID(i) },
		"two streams": func(i int) nvmap.PageID { return nvmap.PageID(i/2 + i%2*pages/2) },
	} {
		d.reset()
		m := cachedMap(t, d, 1<<20)
		for i := range pages {
			read(m, order(i))
		}
		t.Logf("%s: %d pages, read %d by %d and %d one by one", name, pages, d.pages.Load(), d.batches.Load(), d.singles.Load())
		if one, many := d.singles.Load(), d.batches.Load(); one > 4 || many > pages/16 || one+d.pages.Load() > pages+64 {
			t.Errorf("%s: %d pages were read one by one and %d in %d batches", name, one, d.pages.Load(), many)
		}
		if s := m.Stats(); s.Batches != uint64(d.batches.Load()) || s.BatchPages != uint64(d.pages.Load()) || s.CacheUsed > s.CacheBytes {
			t.Errorf("%s: %+v", name, s)
		}
	}
	d.reset()
	m := cachedMap(t, d, 1<<20)
	for i := range pages {
		read(m, nvmap.PageID(i*1021%pages))
	}
	if n := d.pages.Load(); n > pages/50 {
		t.Errorf("%d pages were read ahead of reads without order", n)
	}
}

// TestReadTogether checks that a Load of many pages reads them in batches, and that ReadAhead does.
func TestReadTogether(t *testing.T) {
	const pages = 512
	d := newSlowDisk(t, pages*nvmap.PageBytes)
	want := make([]byte, pages*nvmap.PageBytes)
	must(t, d.Device.Read(0, want))
	m := cachedMap(t, d, 4<<20)
	got := make([]byte, len(want)-200)
	must(t, m.Load(100, got))
	if !bytes.Equal(got, want[100:len(want)-100]) {
		t.Error("other bytes")
	}
	if one, many := d.singles.Load(), d.batches.Load(); one != 0 || many != pages/64 {
		t.Errorf("%d pages one by one, %d batches; want 0 and %d", one, many, pages/64)
	}

	d.reset()
	m = cachedMap(t, d, 4<<20)
	ask := func() { m.ReadAhead([]nvmap.PageID{300, 7, 300, 8, 9, pages + 5, 1 << 40, 7}) }
	ask()
	if many, n := d.batches.Load(), d.pages.Load(); many != 1 || n != 4 {
		t.Errorf("%d pages in %d batches, want 4 in one", n, many)
	}
	for _, p := range []nvmap.PageID{7, 8, 9, 300} {
		if m.Where(p) != nvmap.FrameClean {
			t.Errorf("page %d is in %v", p, m.Where(p))
		}
	}
	ask()
	if n := d.pages.Load(); n != 4 {
		t.Errorf("%d pages read, after asking twice", n)
	}
}

// TestWriteBesideReadAhead checks that a write during the read-ahead of its page is not lost, and
// that a frame made meanwhile is not lost either.
func TestWriteBesideReadAhead(t *testing.T) {
	if raceEnabled {
		t.Skip("a device's calls hold a lock there: nobody can write in the middle of one")
	}
	d := newSlowDisk(t, 1<<20)
	m, err := nvmap.NewMap(d, &nvmap.MapOptions{CacheBytes: 1 << 20})
	must(t, err)
	defer m.Close()
	d.during = func(reqs []nvmap.PageRead) {
		must(t, m.Write(reqs[1].Page.Off()+100, []byte("written meanwhile")))
	}
	m.ReadAhead([]nvmap.PageID{3, 4, 5})
	var b [17]byte
	must(t, m.Load(nvmap.PageID(4).Off()+100, b[:]))
	if string(b[:]) != "written meanwhile" {
		t.Errorf("the frame has %q", b)
	}
	for _, p := range []nvmap.PageID{3, 5} {
		if m.Where(p) != nvmap.FrameClean {
			t.Errorf("page %d is in %v", p, m.Where(p))
		}
	}
}

// TestBadPageReadAhead checks that a page that cannot be read does not affect the other pages, and
// that its reader gets the error.
func TestBadPageReadAhead(t *testing.T) {
	d := newSlowDisk(t, 1<<20)
	d.bad = 10
	m := cachedMap(t, d, 1<<20)
	m.ReadAhead([]nvmap.PageID{9, 10, 11})
	used := m.Stats().CacheUsed
	if m.Where(9) != nvmap.FrameClean || m.Where(10) != nvmap.OnDevice || m.Where(11) != nvmap.FrameClean || used != 2*nvmap.PageBytes {
		t.Errorf("pages are in %v, %v and %v, %d bytes used", m.Where(9), m.Where(10), m.Where(11), used)
	}
	got := make([]byte, 4*nvmap.PageBytes)
	if err := m.Load(nvmap.PageID(8).Off(), got); !errors.Is(err, errBad) {
		t.Errorf("loading over the bad page: %v", err)
	}
	must(t, m.Load(nvmap.PageID(11).Off(), got))
}

// TestReadAheadUnderPressure runs readers in order and at random, and writers, with a cache much
// too small for them. Every read must return the bytes written, and the bound must hold.
func TestReadAheadUnderPressure(t *testing.T) {
	const size = 8 << 20
	d := newSlowDisk(t, size)
	m := cachedMap(t, d, 1<<20)
	var others sync.WaitGroup
	var stop atomic.Bool
	for i := range 3 {
		others.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(i), 1))
			buf := make([]byte, 80*nvmap.PageBytes)
			for !stop.Load() {
				n := 1 + rng.IntN(len(buf)-1)
				if err := m.Load(nvmap.Off(rng.IntN(size-n)), buf[:n]); err != nil {
					t.Error(err)
					return
				}
				m.ReadAhead([]nvmap.PageID{nvmap.PageID(rng.IntN(2048)), nvmap.PageID(rng.IntN(2048))})
			}
		})
	}
	operations := effort.Pick(5_000, 2_000, 20_000, 20_000)
	model := make([]byte, size)
	must(t, d.Device.Read(0, model))
	nvmaptest.Continue(t, m, model, 7, operations)
	stop.Store(true)
	others.Wait()
	if s := m.Stats(); s.Batches == 0 || s.CacheUsed > s.CacheBytes {
		t.Errorf("%+v", s)
	}
}

// TestWriteBackTogether checks that neighbouring dirty pages are written back together, with one
// fence for many of them.
func TestWriteBackTogether(t *testing.T) {
	const pages = 4096
	sim := nvmap.NewSim(nvmap.NewMem(pages * nvmap.PageBytes))
	var writes, long int
	sim.OnWrite(func(_ nvmap.Off, n int) {
		writes++
		long = max(long, n)
	})
	m := cachedMap(t, sim, 4<<20)
	must(t, m.Grow(pages*nvmap.PageBytes))
	page := make([]byte, nvmap.PageBytes)
	for p := range nvmap.PageID(pages) {
		binary.LittleEndian.PutUint64(page, ^uint64(p))
		must(t, m.Store(p.Off(), page))
	}
	must(t, m.Sync())
	t.Logf("%d pages in %d writes, of %d bytes at most, and %d fences", pages, writes, long, sim.Fences())
	if writes > pages/8 || sim.Fences() > pages/200 {
		t.Errorf("%d writes and %d fences for %d pages that were written in order", writes, sim.Fences(), pages)
	}
	var b [8]byte
	for p := range nvmap.PageID(pages) {
		must(t, sim.Read(p.Off(), b[:]))
		if got := binary.LittleEndian.Uint64(b[:]); got != ^uint64(p) {
			t.Fatalf("page %d has %#x on the device", p, got)
		}
	}
}
