package nvmap_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"nvkv/nvmap"
)

// countLog is a log for crash tests. It has records of 24 equal words from offset 4096 on, and
// their count at offset 0.
type countLog struct {
	d     nvmap.Device
	hasty bool // the bug to be caught: the count is written before the record is fenced
}

const (
	logStart  = nvmap.Off(nvmap.PageBytes)
	logRecord = 24 * 8
)

func (l countLog) append(n uint64) error {
	var rec []byte
	for range logRecord / 8 {
		rec = binary.LittleEndian.AppendUint64(rec, n+1)
	}
	if err := l.d.Write(logStart+nvmap.Off(n)*logRecord, rec); err != nil {
		return err
	}
	if !l.hasty {
		if err := l.d.Fence(); err != nil {
			return err
		}
	}
	if err := l.d.Write(0, binary.LittleEndian.AppendUint64(nil, n+1)); err != nil {
		return err
	}
	return l.d.Fence()
}

// recover returns the count, or an error if the log is not one that append can leave.
func (l countLog) recover() (uint64, error) {
	var head [8]byte
	if err := l.d.Read(0, head[:]); err != nil {
		return 0, err
	}
	count := binary.LittleEndian.Uint64(head[:])
	rec := make([]byte, logRecord)
	for n := range count {
		if err := l.d.Read(logStart+nvmap.Off(n)*logRecord, rec); err != nil {
			return 0, err
		}
		for at := 0; at < logRecord; at += 8 {
			if got := binary.LittleEndian.Uint64(rec[at:]); got != n+1 {
				return 0, fmt.Errorf("record %d of %d: word %d is %d", n, count, at/8, got)
			}
		}
	}
	return count, nil
}

// crashLog appends records and recovers each image at each fence. It returns the first failure.
func crashLog(t *testing.T, hasty bool, prepare func(*nvmap.Sim)) (images int, failure error) {
	t.Helper()
	s := newSim(t, 1<<20)
	defer s.Close()
	if prepare != nil {
		prepare(s)
	}
	acked := uint64(0)
	check := func() {
		if failure != nil {
			return
		}
		for im := range s.Images(1, 300) {
			images++
			got, err := countLog{d: im.Device()}.recover()
			if err == nil && got != acked && got != acked+1 {
				err = fmt.Errorf("recovered %d records, acknowledged %d", got, acked)
			}
			if err != nil {
				failure = fmt.Errorf("%v: %w", im, err)
				return
			}
		}
	}
	s.OnFence(check)
	for n := range uint64(20) {
		if err := (countLog{s, hasty}).append(n); err != nil {
			t.Fatal(err)
		}
		acked = n + 1
		check()
	}
	return images, failure
}

func newSim(t testing.TB, size int64) *nvmap.Sim {
	t.Helper()
	s := nvmap.NewSim(nvmap.NewMem(size))
	if err := s.Grow(size); err != nil {
		t.Fatal(err)
	}
	return s
}

func TestSimPassesSoundProtocol(t *testing.T) {
	images, err := crashLog(t, false, nil)
	if err != nil {
		t.Error(err)
	}
	if images < 500 {
		t.Errorf("only %d images", images)
	}
}

func TestSimCatchesMissingFence(t *testing.T) {
	if _, err := crashLog(t, true, nil); err == nil {
		t.Error("no image shows that the count may be durable before the record")
	}
}

// TestSimCatchesMutants checks that ignoring any write or any fence makes the suite fail.
func TestSimCatchesMutants(t *testing.T) {
	for n := 1; n <= 8; n++ {
		if _, err := crashLog(t, false, func(s *nvmap.Sim) { s.IgnoreWrite(n) }); err == nil {
			t.Errorf("write %d ignored, and nobody noticed", n)
		}
		if _, err := crashLog(t, false, func(s *nvmap.Sim) { s.IgnoreFence(n) }); err == nil {
			t.Errorf("fence %d ignored, and nobody noticed", n)
		}
	}
}

// contents counts the values of the first n bytes over the images.
func contents(t *testing.T, s *nvmap.Sim, n, limit int) map[string]int {
	t.Helper()
	seen := make(map[string]int)
	for im := range s.Images(7, limit) {
		p := make([]byte, n)
		if err := im.Device().Read(0, p); err != nil {
			t.Fatal(err)
		}
		seen[string(p)]++
	}
	return seen
}

func write(t testing.TB, d interface{ Write(nvmap.Off, []byte) error }, off nvmap.Off, p string) {
	t.Helper()
	if err := d.Write(off, []byte(p)); err != nil {
		t.Fatal(err)
	}
}

// read returns n bytes of d from off on.
func read(t testing.TB, d nvmap.Device, off nvmap.Off, n int) string {
	t.Helper()
	p := make([]byte, n)
	if err := d.Read(off, p); err != nil {
		t.Fatal(err)
	}
	return string(p)
}

func fence(t *testing.T, d nvmap.Device) {
	t.Helper()
	if err := d.Fence(); err != nil {
		t.Fatal(err)
	}
}

func TestImagesOfOneLine(t *testing.T) {
	s := newSim(t, nvmap.PageBytes)
	defer s.Close()
	write(t, s, 0, "aaaaaaaaAAAAAAAA")
	fence(t, s)
	write(t, s, 0, "bbbbbbbbBBBBBBBB")
	write(t, s, 8, "CCCCCCCC")
	// Each word has its first value or any of the values written to it, independently.
	want := []string{"aaaaaaaaAAAAAAAA", "aaaaaaaaBBBBBBBB", "aaaaaaaaCCCCCCCC", "bbbbbbbbAAAAAAAA", "bbbbbbbbBBBBBBBB", "bbbbbbbbCCCCCCCC"}
	seen := contents(t, s, 16, 1000)
	for _, w := range want {
		if seen[w] == 0 {
			t.Errorf("no image has %q", w)
		}
		delete(seen, w)
	}
	if len(seen) > 0 {
		t.Errorf("impossible images: %v", seen)
	}
	fence(t, s)
	if seen := contents(t, s, 16, 1000); len(seen) != 1 || seen["bbbbbbbbCCCCCCCC"] != 1 {
		t.Errorf("after the fence nothing else is possible: %v", seen)
	}
}

func TestImagesHaveEverySubset(t *testing.T) {
	s := newSim(t, nvmap.PageBytes)
	defer s.Close()
	const lines = 6
	for i := range lines {
		write(t, s, nvmap.Off(i)*64, "x")
	}
	masks := make(map[int]bool)
	for im := range s.Images(1, 200) {
		p := make([]byte, lines*64)
		if err := im.Device().Read(0, p); err != nil {
			t.Fatal(err)
		}
		mask := 0
		for i := range lines {
			if p[i*64] == 'x' {
				mask |= 1 << i
			}
		}
		masks[mask] = true
	}
	if len(masks) != 1<<lines {
		t.Errorf("%d of %d subsets seen", len(masks), 1<<lines)
	}
}

func TestImagesLimit(t *testing.T) {
	s := newSim(t, 1<<20)
	defer s.Close()
	for i := range 1000 {
		write(t, s, nvmap.Off(i)*100, "longer than nothing")
	}
	var first []string
	for im := range s.Images(3, 50) {
		first = append(first, im.String())
	}
	if len(first) != 50 {
		t.Errorf("asked for 50 images, got %d", len(first))
	}
	var again []string
	for im := range s.Images(3, 50) {
		again = append(again, im.String())
	}
	if strings.Join(first, "\n") != strings.Join(again, "\n") {
		t.Error("equal seeds give equal images")
	}
}

// TestImagesAreIndependent checks that the changes of one image do not show in the next, although
// images share memory.
func TestImagesAreIndependent(t *testing.T) {
	s := newSim(t, 64<<10)
	defer s.Close()
	r := rand.New(rand.NewPCG(11, 0))
	durable := make([]byte, s.Size())
	for round := range 30 {
		var pending [][2]int // random writes: offset, length
		for range r.IntN(10) {
			n := 1 + r.IntN(300)
			off := r.IntN(len(durable) - n)
			p := bytes.Repeat([]byte{byte(1 + round)}, n)
			if err := s.Write(nvmap.Off(off), p); err != nil {
				t.Fatal(err)
			}
			pending = append(pending, [2]int{off, n})
		}
		for im := range s.Images(uint64(round), 20) {
			d := im.Device()
			got := make([]byte, d.Size())
			if err := d.Read(0, got); err != nil {
				t.Fatal(err)
			}
			for i, b := range got {
				if b != durable[i] && b != byte(1+round) {
					t.Fatalf("round %d, %v: byte %#x is %d", round, im, i, b)
				}
			}
			spoil(t, d, r)
		}
		fence(t, s)
		for _, w := range pending {
			copy(durable[w[0]:], bytes.Repeat([]byte{byte(1 + round)}, w[1]))
		}
		got := make([]byte, len(durable))
		if err := s.Read(0, got); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, durable) {
			t.Fatalf("round %d: trying images changed the device itself", round)
		}
	}
}

// spoil changes an image's device in every possible way.
func spoil(t *testing.T, d *nvmap.Sim, r *rand.Rand) {
	t.Helper()
	junk := bytes.Repeat([]byte{0xee}, 5000)
	if err := d.Grow(d.Size() + nvmap.PageBytes*int64(r.IntN(3))); err != nil && !errors.Is(err, nvmap.ErrFull) {
		t.Fatal(err)
	}
	write(t, d, nvmap.Off(r.IntN(int(d.Size())-len(junk))), string(junk))
	if r.IntN(2) == 0 {
		fence(t, d)
	}
	if err := d.Discard(nvmap.Off(r.IntN(int(d.Size())-3*nvmap.PageBytes)), 3*nvmap.PageBytes); err != nil {
		t.Fatal(err)
	}
	if err := d.Corrupt(0, junk[:10]); err != nil {
		t.Fatal(err)
	}
	for im := range d.Images(1, 5) { // a crash of the recovery
		write(t, im.Device(), 0, "deeper")
	}
	if r.IntN(2) == 0 {
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestKilledProcessLeavesLinesPending(t *testing.T) {
	s := newSim(t, nvmap.PageBytes)
	defer s.Close()
	write(t, s, 0, "old")
	fence(t, s)
	write(t, s, 0, "new")
	k := s.Kill()
	defer k.Close()
	seen := contents(t, k, 3, 20)
	if seen["new"] == 0 || seen["old"] == 0 {
		t.Errorf("after a kill a power failure may still decide either way: %v", seen)
	}
	p := make([]byte, 3)
	if err := k.Read(0, p); err != nil || string(p) != "new" {
		t.Errorf("what was visible stays visible: %q, %v", p, err)
	}
	// Recovery writes the bytes again, unchanged, and fences (R12).
	write(t, k, 0, "new")
	fence(t, k)
	if seen := contents(t, k, 3, 20); seen["old"] != 0 {
		t.Errorf("written again and fenced, it stays: %v", seen)
	}
	if s.Pending() != 1 {
		t.Error("the device that was copied goes on unharmed")
	}
}

func TestFailedFenceIsNotRepairedByTheNext(t *testing.T) {
	s := newSim(t, nvmap.PageBytes)
	defer s.Close()
	boom := errors.New("boom")
	write(t, s, 0, "x")
	s.FailFence(1, boom)
	if err := s.Fence(); !errors.Is(err, boom) || !errors.Is(err, nvmap.ErrMediaFault) {
		t.Fatalf("fence: %v", err)
	}
	fence(t, s)
	if seen := contents(t, s, 1, 20); seen["\x00"] == 0 {
		t.Error("a later fence made durable what a failed one may have lost")
	}
	write(t, s, 0, "x")
	fence(t, s)
	if seen := contents(t, s, 1, 20); len(seen) != 1 {
		t.Errorf("written again it is durable: %v", seen)
	}
}

func TestFailedWrite(t *testing.T) {
	s := newSim(t, nvmap.PageBytes)
	defer s.Close()
	boom := errors.New("boom")
	s.FailWrite(2, boom)
	write(t, s, 0, "fine")
	err := s.Write(64, bytes.Repeat([]byte{1}, 32))
	var fault *nvmap.FaultError
	if !errors.Is(err, boom) || !errors.As(err, &fault) || fault.Off != 64 || fault.Op != "write" {
		t.Fatalf("second write: %v", err)
	}
	write(t, s, 128, "fine again")
	if s.Writes() != 3 {
		t.Errorf("%d writes counted", s.Writes())
	}
}

func TestSimLimit(t *testing.T) {
	s := nvmap.NewSim(nvmap.NewMem(1 << 20))
	defer s.Close()
	s.SetLimit(10 * nvmap.PageBytes)
	if err := s.Grow(10 * nvmap.PageBytes); err != nil {
		t.Fatal(err)
	}
	if err := s.Grow(10*nvmap.PageBytes + 1); !errors.Is(err, nvmap.ErrFull) {
		t.Fatalf("growing a full device: %v", err)
	}
}

// BenchmarkImages opens a map on each image of a 1 MiB store, changes a few pages, and goes on to
// the next.
func BenchmarkImages(b *testing.B) {
	s := newSim(b, 1<<20)
	defer s.Close()
	for i := range 40 {
		if err := s.Write(nvmap.Off(i)*5000, make([]byte, 200)); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportAllocs()
	for n := 0; n < b.N; {
		for im := range s.Images(uint64(n), b.N-n) {
			n++
			m, err := nvmap.NewMap(im.Device(), nil)
			if err != nil {
				b.Fatal(err)
			}
			for p := range nvmap.PageID(10) {
				if _, err := m.Frame(p * 7); err != nil {
					b.Fatal(err)
				}
				if err := m.Write(p.Off()+100, make([]byte, 100)); err != nil {
					b.Fatal(err)
				}
			}
			if err := m.Close(); err != nil {
				b.Fatal(err)
			}
		}
	}
}

// This example stores a word and its copy. Both should change or neither. Writing both under one
// fence is not enough: some image shows one without the other.
func ExampleSim_Images() {
	s := nvmap.NewSim(nvmap.NewMem(1 << 20))
	defer s.Close()
	if err := s.Grow(nvmap.PageBytes); err != nil {
		fmt.Println(err)
	}
	for _, off := range []nvmap.Off{0, 512} {
		if err := s.Write(off, []byte("both")); err != nil {
			fmt.Println(err)
		}
	}
	seen := map[string]bool{}
	for im := range s.Images(1, 100) {
		d := im.Device() // here a test would recover, operate, and crash again
		var a, b [4]byte
		if err := errors.Join(d.Read(0, a[:]), d.Read(512, b[:])); err != nil {
			fmt.Println(err)
		}
		seen[fmt.Sprintf("%q %q", a, b)] = true
	}
	for _, state := range slices.Sorted(maps.Keys(seen)) {
		fmt.Println(state)
	}
	// Output:
	// "\x00\x00\x00\x00" "\x00\x00\x00\x00"
	// "\x00\x00\x00\x00" "both"
	// "both" "\x00\x00\x00\x00"
	// "both" "both"
}

// TestImagesOfAnImageThatGrew reuses the device of an image, which in turn reuses the device of its
// own images. Bytes that the second history wrote in the grown part must be in its images too.
func TestImagesOfAnImageThatGrew(t *testing.T) {
	s := nvmap.NewSim(nvmap.NewMem(1 << 20))
	must(t, s.Grow(nvmap.PageBytes))
	must(t, s.Write(0, []byte("pending.")))
	want := []byte("is fenced")
	for round := range 2 {
		for im := range s.Images(1, 1) {
			d := im.Device()
			if round == 1 {
				must(t, d.Grow(4*nvmap.PageBytes))
				must(t, d.Write(3*nvmap.PageBytes, want))
				must(t, d.Fence())
			}
			must(t, d.Write(64, []byte("pending.")))
			for inner := range d.Images(1, 1) {
				got := make([]byte, len(want))
				if b := inner.Device(); round == 1 {
					must(t, b.Read(3*nvmap.PageBytes, got))
				}
				if round == 1 && !bytes.Equal(got, want) {
					t.Errorf("what was fenced reads %q", got)
				}
			}
		}
	}
}
