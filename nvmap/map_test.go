package nvmap_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"unsafe"

	"nvkv/internal/effort"
	"nvkv/nvmap"
)

func newMap(t testing.TB, d nvmap.Device, size int64) *nvmap.Map {
	t.Helper()
	m, err := nvmap.NewMap(d, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	if err := m.Grow(size); err != nil {
		t.Fatal(err)
	}
	return m
}

func frame(t testing.TB, m *nvmap.Map, p nvmap.PageID) *[nvmap.PageBytes]byte {
	t.Helper()
	f, err := m.Frame(p)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func wantPlace(t *testing.T, m *nvmap.Map, p nvmap.PageID, want nvmap.Place) {
	t.Helper()
	if got := m.Where(p); got != want {
		t.Errorf("page %d is on %v, want %v", p, got, want)
	}
}

// readsOnDevice reports whether p, which has no frame, begins with want in the device's mapping. It
// returns true if the device has no mapping.
func readsOnDevice(t *testing.T, m *nvmap.Map, p nvmap.PageID, want string) bool {
	t.Helper()
	if m.Device().Mapping() == nil {
		return read(t, m.Device(), p.Off(), len(want)) == want
	}
	return bytes.HasPrefix(m.Page(p)[:], []byte(want))
}

// TestPageLife moves a page from the device to a frame, back, and out of DRAM again.
func TestPageLife(t *testing.T) {
	for name, open := range kinds {
		t.Run(name, func(t *testing.T) {
			m := newMap(t, open(t), 16*nvmap.PageBytes)
			const p = nvmap.PageID(5)
			write(t, m, p.Off(), "on the device")
			if err := m.Fence(); err != nil {
				t.Fatal(err)
			}
			if !readsOnDevice(t, m, p, "on the device") {
				t.Fatal("a page without a frame is read from the device")
			}
			v, ok := m.ReadBegin(p)
			if !ok || !m.ReadValid(p, v) {
				t.Fatal("nobody changes it")
			}

			f := frame(t, m, p)
			wantPlace(t, m, p, nvmap.FrameDirty)
			if m.Page(p) != f || !bytes.HasPrefix(f[:], []byte("on the device")) {
				t.Fatal("the frame is the page now, and has its bytes")
			}
			if !m.ReadValid(p, v) {
				t.Error("moving to a frame changes no byte")
			}
			m.BeginChange(p)
			if _, ok := m.ReadBegin(p); ok || m.ReadValid(p, v) {
				t.Error("readers retry while the page is changed")
			}
			copy(f[:], "in the frame!")
			m.EndChange(p)
			if _, ok := m.ReadBegin(p); !ok || m.ReadValid(p, v) {
				t.Error("a changed page has another version")
			}

			m.Drop([]nvmap.PageID{p})
			wantPlace(t, m, p, nvmap.FrameDirty) // dirty pages stay
			if err := m.WriteBack(p, 0, 13); err != nil {
				t.Fatal(err)
			}
			if err := m.Fence(); err != nil {
				t.Fatal(err)
			}
			wantPlace(t, m, p, nvmap.FrameDirty)
			m.Clean(p)
			wantPlace(t, m, p, nvmap.FrameClean)
			v, _ = m.ReadBegin(p)
			m.SetVerified(p)
			m.Drop([]nvmap.PageID{p - 1, p, p + 1})
			wantPlace(t, m, p, nvmap.OnDevice)
			if m.ReadValid(p, v) {
				t.Error("a reader of the dropped frame retries")
			}
			if m.Verified(p) {
				t.Error("nobody has seen what the device holds now")
			}
			if !readsOnDevice(t, m, p, "in the frame!") {
				t.Error("the device has the bytes that were written back")
			}
			if !bytes.HasPrefix(frame(t, m, p)[:], []byte("in the frame!")) {
				t.Error("a frame after a drop starts from the device again")
			}
			stats := m.Stats()
			if stats.Writes != 1 || stats.WriteBytes != 13 || stats.WriteLines != 1 || stats.Fences != 2 ||
				stats.WriteBacks != 1 || stats.WriteBackBytes != 13 || stats.Frames != 1 || stats.Drops != 1 {
				t.Errorf("counters: %+v", stats)
			}
		})
	}
}

func TestFreshFrame(t *testing.T) {
	m := newMap(t, nvmap.NewMem(1<<20), 4*nvmap.PageBytes)
	write(t, m, nvmap.PageID(1).Off(), "old life")
	m.SetVerified(1)
	for life := range 3 { // from the device, from a dirty frame, inside a change
		v, _ := m.ReadBegin(1)
		if life == 2 {
			m.BeginChange(1)
		}
		f, err := m.FreshFrame(1)
		if err != nil {
			t.Fatal(err)
		}
		if *f != ([nvmap.PageBytes]byte{}) {
			t.Errorf("life %d begins with bytes of the one before", life)
		}
		if m.ReadValid(1, v) {
			t.Errorf("life %d: readers of the one before go on", life)
		}
		if _, ok := m.ReadBegin(1); ok != (life < 2) {
			t.Errorf("life %d: ReadBegin says %v", life, ok)
		}
		if m.Verified(1) {
			t.Errorf("life %d: verified by a former one", life)
		}
		wantPlace(t, m, 1, nvmap.FrameDirty)
		copy(f[:], "used")
	}
	m.EndChange(1)
	if _, ok := m.ReadBegin(1); !ok {
		t.Error("the change is over")
	}
}

func TestView(t *testing.T) {
	m := newMap(t, nvmap.NewMem(1<<20), 2*nvmap.PageBytes)
	size := nvmap.Off(m.Size())
	v := m.View(10, 20)
	if len(v) != 20 || cap(v) != 20 {
		t.Errorf("a view of %d bytes, capacity %d", len(v), cap(v))
	}
	if len(m.View(size-1, 1)) != 1 || m.View(size, 0) == nil {
		t.Error("views end where the device ends")
	}
	for _, bad := range []struct {
		off nvmap.Off
		n   int
	}{{size, 1}, {size - 1, 2}, {0, int(size) + 1}, {^nvmap.Off(0), 1}, {1 << 63, 1}, {0, -1}, {5, math.MinInt / 2}} {
		if m.View(bad.off, bad.n) != nil {
			t.Errorf("View(%#x, %d) of %#x bytes", bad.off, bad.n, size)
		}
	}
}

func TestLinesTouched(t *testing.T) {
	m := newMap(t, nvmap.NewMem(1<<20), nvmap.PageBytes)
	for _, w := range []struct{ off, n, lines int }{{0, 0, 0}, {0, 1, 1}, {63, 1, 1}, {63, 2, 2}, {64, 64, 1}, {60, 150, 4}, {0, 4096, 64}} {
		before := m.Stats().WriteLines
		if err := m.Write(nvmap.Off(w.off), make([]byte, w.n)); err != nil {
			t.Fatal(err)
		}
		if got := m.Stats().WriteLines - before; got != uint64(w.lines) {
			t.Errorf("%d bytes at %d touch %d lines, counted %d", w.n, w.off, w.lines, got)
		}
	}
}

// TestMapGrowFull checks that a failed growth of the device leaves the map usable at its old size.
func TestMapGrowFull(t *testing.T) {
	s := nvmap.NewSim(nvmap.NewMem(4 << 20))
	m := newMap(t, s, 4*nvmap.PageBytes)
	s.SetLimit(4 * nvmap.PageBytes)
	if err := m.Grow(5 * nvmap.PageBytes); !errors.Is(err, nvmap.ErrFull) {
		t.Errorf("growing a full device: %v", err)
	}
	if err := m.Grow(1 << 50); !errors.Is(err, nvmap.ErrFull) {
		t.Errorf("growing beyond the address space: %v", err)
	}
	if m.Size() != 4*nvmap.PageBytes {
		t.Errorf("size %d after growth that failed", m.Size())
	}
	s.SetLimit(0)
	if err := m.Grow(5 * nvmap.PageBytes); err != nil {
		t.Errorf("with room again: %v", err)
	}
}

func TestMapClose(t *testing.T) {
	m := newMap(t, nvmap.NewMem(1<<20), nvmap.PageBytes)
	frame(t, m, 0)
	for range 2 {
		if err := m.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if m.Write(0, []byte{1}) == nil || m.View(0, 1) != nil || !errors.Is(m.Grow(1<<20), nvmap.ErrClosed) {
		t.Error("a closed map refuses")
	}
	_, _ = m.ReadBegin(0) // state words remain after Close
	_ = m.Page(0)[0]      // and so do frames
}

// TestVersionsUnderStress checks that readers never accept a torn page while a writer, an evictor
// and growth change the map. Every change fills the page with one word.
func TestVersionsUnderStress(t *testing.T) {
	if testing.Short() {
		t.Skip("half a second of everything at once")
	}
	m := newMap(t, nvmap.NewMem(64<<20), 64*nvmap.PageBytes)
	const pages = 8
	var stop atomic.Bool
	var wg sync.WaitGroup
	var locks [pages]sync.RWMutex // race builds only: the protocol races on purpose
	reads := make([]int, 2)
	for r := range reads {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(r), 1))
			for !stop.Load() {
				p := nvmap.PageID(rng.IntN(pages))
				if readWhole(t, m, p, &locks[p]) {
					reads[r]++
				}
			}
		})
	}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	changes := 30_000
	if raceEnabled {
		changes = 5000
	}
	for i := range changes {
		p := nvmap.PageID(rng.IntN(pages))
		if raceEnabled {
			locks[p].Lock()
		}
		changeWhole(t, m, p, uint64(i), rng)
		if raceEnabled {
			locks[p].Unlock()
		}
		if i%100 == 0 {
			if err := m.Grow(m.Size() + nvmap.PageBytes); err != nil {
				t.Fatal(err)
			}
		}
	}
	stop.Store(true)
	wg.Wait()
	if reads[0]+reads[1] == 0 {
		t.Error("no reader ever found a page at rest")
	}
	t.Logf("valid reads: %v", reads)
}

func readWhole(t *testing.T, m *nvmap.Map, p nvmap.PageID, lock *sync.RWMutex) bool {
	if raceEnabled {
		lock.RLock()
		defer lock.RUnlock()
	}
	v, ok := m.ReadBegin(p)
	if !ok {
		runtime.Gosched()
		return false
	}
	page := m.Page(p)
	first := binary.LittleEndian.Uint64(page[:])
	mixed := false
	for at := 0; at < nvmap.PageBytes; at += 8 {
		mixed = mixed || binary.LittleEndian.Uint64(page[at:]) != first
	}
	if !m.ReadValid(p, v) {
		return false
	}
	if mixed {
		t.Errorf("page %d validated and is mixed", p)
	}
	return true
}

// changeWhole fills p with word, and sometimes writes it back and drops it.
func changeWhole(t *testing.T, m *nvmap.Map, p nvmap.PageID, word uint64, rng *rand.Rand) {
	if rng.IntN(4) == 0 && m.Where(p) != nvmap.OnDevice {
		if err := m.WriteBack(p, 0, nvmap.PageBytes); err != nil {
			t.Error(err)
		}
		m.Clean(p)
		m.Drop([]nvmap.PageID{p})
		return
	}
	get := m.Frame
	if rng.IntN(8) == 0 {
		get = m.FreshFrame
	}
	f, err := get(p)
	if err != nil {
		t.Error(err)
		return
	}
	m.BeginChange(p)
	for at := 0; at < nvmap.PageBytes; at += 8 {
		binary.LittleEndian.PutUint64(f[at:], word)
	}
	m.EndChange(p)
}

// TestDropMeetsFrame runs Drop and Frame of one page at the same time. The later one takes effect,
// and no byte is lost.
func TestDropMeetsFrame(t *testing.T) {
	m := newMap(t, nvmap.NewMem(1<<20), nvmap.PageBytes)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range 5000 {
			m.Drop([]nvmap.PageID{0})
		}
	}()
	for i := uint64(1); ; i++ {
		f := frame(t, m, 0)
		if i > 1 && binary.LittleEndian.Uint64(f[:]) != i-1 {
			t.Fatalf("change %d is gone", i-1)
		}
		binary.LittleEndian.PutUint64(f[:], i)
		if err := m.WriteBack(0, 0, 8); err != nil {
			t.Fatal(err)
		}
		m.Clean(0)
		select {
		case <-done:
			return
		default:
		}
	}
}

// TestLargeMapIsLight checks that a map of 1 TiB costs addresses and no memory.
func TestLargeMapIsLight(t *testing.T) {
	if raceEnabled {
		t.Skip("race builds keep pages on the heap")
	}
	dir := shmDir(t)
	before := residentBytes(t)
	d := open(t, filepath.Join(dir, "store"), "shm", nvmap.OpenOptions{Create: true, MaxBytes: 1 << 40})
	m := newMap(t, d, 1<<20)
	if m.Stats().MaxBytes != 1<<40 {
		effort.NotTested(t, "this system grants %d bytes of address space", m.Stats().MaxBytes)
	}
	if grown := residentBytes(t) - before; grown > 8<<20 {
		t.Errorf("opening 1 TiB took %d bytes of memory", grown)
	}
}

// residentBytes returns the memory of the process, tmpfs pages included.
func residentBytes(t *testing.T) int64 {
	statm, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		effort.NotTested(t, "%v", err)
	}
	pages, err := strconv.ParseInt(strings.Fields(string(statm))[1], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return pages * int64(os.Getpagesize())
}

// TestOpenCloseMany checks that repeated opening and closing exhausts no resource.
func TestOpenCloseMany(t *testing.T) {
	path := filepath.Join(shmDir(t), "store")
	rounds := effort.Pick(50, 300, 2000, 2000)
	for i := range rounds {
		d, err := nvmap.OpenDevice(path, nvmap.OpenOptions{Create: true})
		if err != nil {
			t.Fatalf("round %d: %v", i, err)
		}
		m, err := nvmap.NewMap(d, nil)
		if err != nil {
			t.Fatalf("round %d: %v", i, err)
		}
		if err := m.Grow(nvmap.PageBytes); err != nil {
			t.Fatal(err)
		}
		var n [8]byte
		copy(n[:], m.View(0, 8))
		if got := binary.LittleEndian.Uint64(n[:]); got != uint64(i) {
			t.Fatalf("round %d found %d", i, got)
		}
		if err := m.Write(0, binary.LittleEndian.AppendUint64(nil, uint64(i+1))); err != nil {
			t.Fatal(err)
		}
		if max := m.Stats().MaxBytes; max < 1<<28 {
			t.Fatalf("round %d: address space is down to %d bytes", i, max)
		}
		if err := m.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestPrefetchNeverFaults(t *testing.T) {
	var x [256]byte
	nvmap.Prefetch(unsafe.Pointer(&x), 4)
	nvmap.Prefetch(nil, 3)
	nvmap.Prefetch(unsafe.Pointer(&x), 0)
	nvmap.Prefetch(unsafe.Pointer(&x), -1)
}

func ExampleMap() {
	m, err := nvmap.NewMap(nvmap.NewMem(1<<20), nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer m.Close()
	if err := m.Grow(4 * nvmap.PageBytes); err != nil {
		fmt.Println(err)
		return
	}

	// Records are written through to the device and read in place.
	if err := m.Write(100, []byte("a record")); err != nil {
		fmt.Println(err)
	}
	if err := m.Fence(); err != nil {
		fmt.Println(err)
	}
	fmt.Printf("%s\n", m.View(100, 8))

	// Pages are changed in DRAM, under a version that readers check.
	const page = 2
	f, err := m.Frame(page)
	if err != nil {
		fmt.Println(err)
	}
	m.BeginChange(page)
	copy(f[:], "an index page")
	m.EndChange(page)

	for {
		v, ok := m.ReadBegin(page)
		text := string(m.Page(page)[:13]) // may be anything until ReadValid
		if ok && m.ReadValid(page, v) {
			fmt.Println(text, "in a", m.Where(page))
			break
		}
	}
	// Output:
	// a record
	// an index page in a dirty frame
}

// TestWriteBesideCounts checks the separate counters of two goroutines that write.
func TestWriteBesideCounts(t *testing.T) {
	m := newMap(t, nvmap.NewMem(1<<20), 16*nvmap.PageBytes)
	const writes = 2000
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for i := range nvmap.Off(writes) {
				if err := m.WriteBeside(8*nvmap.PageBytes+i%64*8, nil); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for range writes {
		write(t, m, 4, "123456789")
	}
	wg.Wait()
	stats := m.Stats()
	if stats.Writes != 3*writes || stats.WriteBytes != 9*writes || stats.WriteLines != writes {
		t.Errorf("counted %d writes, %d bytes, %d lines", stats.Writes, stats.WriteBytes, stats.WriteLines)
	}
}
