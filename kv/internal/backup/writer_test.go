package backup

import (
	"bytes"
	"errors"
	"io"
	"testing"
)

// brief accepts some bytes and then fails, or accepts fewer bytes than it gets.
type brief struct {
	left  int
	short bool
}

var errBrief = errors.New("no more")

func (w *brief) Write(b []byte) (int, error) {
	n := min(len(b), w.left)
	if w.left -= n; n < len(b) && !w.short {
		return n, errBrief
	}
	return n, nil
}

// TestWriterFails: the first error of the underlying writer stays, and the bytes before it are
// counted.
func TestWriterFails(t *testing.T) {
	value := make([]byte, ChunkBytes)
	for _, left := range []int{0, HeaderBytes - 1, HeaderBytes, HeaderBytes + 100, ChunkBytes} {
		for _, short := range []bool{false, true} {
			want := errBrief
			if short {
				want = io.ErrShortWrite
			}
			s := NewWriter(&brief{left, short}, &Header{})
			_ = s.Put([]byte("a"), value, 0)
			if err := s.Put([]byte("b"), value, 0); !errors.Is(err, want) {
				t.Errorf("%d bytes: Put: %v", left, err)
			}
			if err := s.Finish(); !errors.Is(err, want) || s.Written() != int64(left) {
				t.Errorf("%d bytes: Finish: %v, %d written", left, err, s.Written())
			}
		}
	}
}

// TestWriterCounts: the counts of a Writer are those of the bytes and records written.
func TestWriterCounts(t *testing.T) {
	var b bytes.Buffer
	s := NewWriter(&b, &Header{})
	for i := range 3 {
		if err := s.Put([]byte{byte(i)}, make([]byte, ChunkBytes), 0); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Finish(); err != nil || s.Records() != 3 || s.Written() != int64(b.Len()) {
		t.Errorf("%v, %d records, %d bytes of %d", err, s.Records(), s.Written(), b.Len())
	}
}
