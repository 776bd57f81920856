package nvmap_test

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"testing"

	"nvkv/nvmap"
)

// TestWear checks that a block wears once per fence, however often it is written before, and does
// not wear without a fence.
func TestWear(t *testing.T) {
	s := newSim(t, 1<<20)
	for range 3 {
		for i := range 4 {
			write(t, s, nvmap.Off(512+i*64), "a line of the block at 512")
		}
		write(t, s, 4000, string(make([]byte, 300))) // blocks 15 and 16
		fence(t, s)
	}
	write(t, s, 512, "again")
	fence(t, s)
	write(t, s, 9000, "never fenced")
	want := nvmap.Wear{Lines: 3*(4+6) + 1, Writes: 4 + 2*3, Blocks: 3, Max: 4, MaxOff: 512, Mean: 10.0 / 4096}
	if got := s.Wear(); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	for off, want := range map[nvmap.Off]int64{511: 0, 512: 4, 767: 4, 768: 0, 4000: 3, 4100: 3, 9000: 0, 1<<20 - 1: 0} {
		if got := s.WearAt(off); got != want {
			t.Errorf("the block at %d is written %d times, want %d", off, got, want)
		}
	}
	for im := range s.Images(1, 10) { // opening images causes no wear
		d := im.Device()
		write(t, d, 512, "on an image")
		fence(t, d)
	}
	if got := s.Wear(); got != want {
		t.Errorf("after images: %+v", got)
	}
	s.ResetWear()
	if got := s.Wear(); got != (nvmap.Wear{}) {
		t.Errorf("new: %+v", got)
	}
}

// TestWearBuffer checks that with a buffer a block wears once each time it enters the buffer,
// however often it is written and fenced while there.
func TestWearBuffer(t *testing.T) {
	s := newSim(t, 1<<20)
	s.SetWearBuffer(4 * 256)
	store := func(block int) {
		t.Helper()
		write(t, s, nvmap.Off(block*256), "a line")
		fence(t, s)
	}
	for block := range 4 {
		store(block)
		store(block)
	}
	store(0) // now the newest; 1 is the oldest
	store(4)
	for block, want := range map[int]int64{0: 1, 1: 1, 2: 1, 3: 1, 4: 1} {
		if got := s.WearAt(nvmap.Off(block * 256)); got != want {
			t.Errorf("block %d was written %d times, want %d", block, got, want)
		}
	}
	store(0) // still in the buffer
	store(1) // had left the buffer
	if zero, one := s.WearAt(0), s.WearAt(256); zero != 1 || one != 2 {
		t.Errorf("the block that stayed was written %d times, the one that left %d; want 1 and 2", zero, one)
	}
	if w := s.Wear(); w.Writes != 6 || w.Lines != 12 {
		t.Errorf("%d blocks and %d lines written, want 6 and 12", w.Writes, w.Lines)
	}
}

// TestFailIf checks that a rule sees every call, and that the calls that it rejects fail.
func TestFailIf(t *testing.T) {
	broken := errors.New("broken by rule")
	s := newSim(t, 1<<20)
	write(t, s, 0, "before")
	fence(t, s)
	calls := map[string]func() error{
		"read":     func() error { return s.Read(128, make([]byte, 32)) },
		"write":    func() error { return s.Write(128, bytes.Repeat([]byte{1}, 32)) },
		"fence":    func() error { return s.Fence() },
		"discard":  func() error { return s.Discard(0, nvmap.PageBytes) },
		"allocate": func() error { return s.Allocate(0, nvmap.PageBytes) },
		"grow":     func() error { return s.Grow(2 << 20) },
	}
	var seen []string
	for op, call := range calls {
		seen = nil
		s.FailIf(func(a nvmap.Access) error {
			seen = append(seen, fmt.Sprintf("%s of %d at %d", a.Op, a.Bytes, a.Off))
			if a.Op == op {
				return broken
			}
			return nil
		})
		if err := call(); !errors.Is(err, broken) {
			t.Errorf("%s: %v", op, err)
		}
		if len(seen) != 1 {
			t.Errorf("%s: the rule saw %v", op, seen)
		}
	}
	var fault *nvmap.FaultError
	s.FailIf(func(a nvmap.Access) error { return broken })
	if err := s.Read(128, make([]byte, 8)); !errors.As(err, &fault) || fault.Off != 128 || fault.Op != "read" {
		t.Errorf("a read that fails by rule: %v", err)
	}
	s.FailIf(func(a nvmap.Access) error { return nvmap.ErrFull })
	if err := s.Grow(2 << 20); !errors.Is(err, nvmap.ErrFull) || s.Size() != 1<<20 {
		t.Errorf("growth on a full device: %v, %d bytes", err, s.Size())
	}
	s.FailIf(nil)
	if got := read(t, s, 0, 6); got != "before" {
		t.Errorf("a discard that failed left %q", got)
	}
	half := append(bytes.Repeat([]byte{1}, 16), make([]byte, 16)...)
	if got := []byte(read(t, s, 128, 32)); !slices.Equal(got, half) {
		t.Errorf("a write that failed left %x", got)
	}
}

// TestLoseLines checks that a lost line cannot be read until it is written whole.
func TestLoseLines(t *testing.T) {
	s := newSim(t, 1<<20)
	write(t, s, 4096, string(bytes.Repeat([]byte("x"), 4096)))
	fence(t, s)
	if err := s.LoseLines(4096+70, 100); err != nil { // the lines at 4160 and 4224
		t.Fatal(err)
	}
	if s.LostLines() != 2 {
		t.Errorf("%d lines lost", s.LostLines())
	}
	faultAt := func(off nvmap.Off, n int, want nvmap.Off) {
		t.Helper()
		var fault *nvmap.FaultError
		err := s.Read(off, make([]byte, n))
		if !errors.As(err, &fault) || !errors.Is(err, nvmap.ErrMediaFault) || fault.Off != want {
			t.Errorf("reading %d bytes at %d: %v, want a fault at %d", n, off, err, want)
		}
	}
	faultAt(4096, 4096, 4160)
	faultAt(4170, 10, 4170)
	faultAt(4280, 10, 4280)
	read(t, s, 4096, 64)
	read(t, s, 4288, 64)
	reqs := []nvmap.PageRead{{Page: 0, Buf: make([]byte, nvmap.PageBytes)}, {Page: 1, Buf: make([]byte, nvmap.PageBytes)}, {Page: 2, Buf: make([]byte, nvmap.PageBytes)}}
	if err := s.ReadBatch(reqs); !errors.Is(err, nvmap.ErrMediaFault) || reqs[0].Err != nil || reqs[1].Err == nil || reqs[2].Err != nil {
		t.Errorf("a batch with a lost page: %v, %v", err, reqs)
	}
	write(t, s, 4160, "a part of the line")
	faultAt(4160, 1, 4160)
	write(t, s, 4160, string(make([]byte, 64)))
	read(t, s, 4160, 64)
	faultAt(4224, 1, 4224)
	write(t, s, 4096, string(make([]byte, 4096)))
	read(t, s, 4096, 4096)
	if s.LostLines() != 0 {
		t.Errorf("%d lines still lost", s.LostLines())
	}
	if s.LoseLines(1<<20, 1) == nil {
		t.Error("lines beyond the end")
	}
}

func TestHideMapping(t *testing.T) {
	s := nvmap.NewSim(nvmap.NewMem(1 << 20))
	s.HideMapping()
	if s.Mapping() != nil || s.Info().Mapped {
		t.Error("a hidden mapping is there")
	}
	if err := s.Grow(nvmap.PageBytes); err != nil {
		t.Fatal(err)
	}
	write(t, s, 0, "pending")
	for im := range s.Images(1, 5) {
		if im.Device().Mapping() != nil {
			t.Fatal("an image has the mapping that is hidden")
		}
	}
	if s.Crash(1).Mapping() != nil {
		t.Error("what a crash leaves has the mapping that is hidden")
	}
}
