package nvmap

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"testing"
)

// countingFile is a staged file in memory that counts calls.
type countingFile struct {
	data  []byte
	calls int
	fail  error
}

func (f *countingFile) WriteAt(p []byte, off int64) (int, error) {
	f.calls++
	if f.fail != nil {
		return 0, f.fail
	}
	return copy(f.data[off:], p), nil
}

func (f *countingFile) peek(p []byte, off int64) error {
	copy(p, f.data[off:])
	return nil
}

func newStage(n int) (*stage, *countingFile) {
	f := &countingFile{data: make([]byte, n)}
	return &stage{file: f}, f
}

func TestStageBridgesSmallGaps(t *testing.T) {
	s, f := newStage(1 << 20)
	copy(f.data, bytes.Repeat([]byte{9}, 1<<20))
	want := bytes.Clone(f.data)
	for i := range 1000 { // records of 150 bytes in slots of 152
		p := bytes.Repeat([]byte{byte(i)}, 150)
		copy(want[i*152:], p)
		if err := s.write(int64(i*152), p); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.flush(); err != nil {
		t.Fatal(err)
	}
	if f.calls != 1 {
		t.Errorf("a batch of neighbours took %d system calls", f.calls)
	}
	if !bytes.Equal(f.data, want) {
		t.Error("a bridged gap changed")
	}
}

// TestStageAgainstModel checks that flush writes the newest bytes, in whatever order they were
// staged.
func TestStageAgainstModel(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	const size = 1 << 20
	s, f := newStage(size)
	model := make([]byte, size)
	off := 0
	for i := range 20_000 {
		n := 1 + r.IntN(300)
		if r.IntN(200) == 0 {
			n = r.IntN(stageBytes)
		}
		switch r.IntN(4) {
		case 0:
			off = r.IntN(size)
		case 1:
			off = max(0, off-r.IntN(400)) // over bytes that were just staged
		case 2:
			off += r.IntN(2 * stageGap)
		}
		if off+n > size {
			off = 0
		}
		p := make([]byte, n)
		for j := range p {
			p[j] = byte(r.Uint32())
		}
		copy(model[off:], p)
		if err := s.write(int64(off), p); err != nil {
			t.Fatal(err)
		}
		if len(s.buf) > stageBytes || len(s.runs) > stageRuns {
			t.Fatalf("stage of %d bytes in %d runs", len(s.buf), len(s.runs))
		}
		off += n
		if r.IntN(50) == 0 {
			if err := s.flush(); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(f.data, model) {
				t.Fatalf("write %d: the file differs from the model", i)
			}
		}
	}
}

func TestStageReportsFailure(t *testing.T) {
	s, f := newStage(1 << 20)
	f.fail = errors.New("disk on fire")
	if err := s.write(8192, []byte("x")); err != nil {
		t.Fatal(err)
	}
	err := s.flush()
	var fault *FaultError
	if !errors.As(err, &fault) || fault.Off != 8192 || !errors.Is(err, f.fail) || !errors.Is(err, ErrMediaFault) {
		t.Errorf("flush: %v", err)
	}
	if err := s.write(0, make([]byte, stageBytes)); !errors.Is(err, f.fail) {
		t.Errorf("a write too large to stage: %v", err)
	}
}
