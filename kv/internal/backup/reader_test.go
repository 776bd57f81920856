package backup

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"testing"

	"nvkv/alloc"
)

// item is a record of a stream.
type item struct {
	key, value string
	expiry     int64
}

// written returns a stream of items.
func written(items []item) []byte {
	var b bytes.Buffer
	s := NewWriter(&b, &Header{ID: [16]byte{1}, At: 2, Keys: int64(len(items))})
	for _, it := range items {
		_ = s.Put([]byte(it.key), []byte(it.value), it.expiry)
	}
	_ = s.Finish()
	return b.Bytes()
}

// forged returns a stream with right checksums around an arbitrary payload.
func forged(payload []byte, records uint64) []byte {
	var b bytes.Buffer
	s := NewWriter(&b, &Header{})
	s.add(payload)
	s.records = records
	_ = s.Finish()
	return b.Bytes()
}

// readAll reads a stream to its end.
func readAll(stream []byte) (items []item, err error) {
	s, err := NewReader(bytes.NewReader(stream))
	if err != nil {
		return nil, err
	}
	for {
		k, v, x, err := s.Next()
		if err == io.EOF {
			return items, s.End()
		}
		if err != nil {
			return items, err
		}
		items = append(items, item{string(k), string(v), x})
	}
}

// someItems returns records that cross chunk boundaries, and one of each kind.
func someItems() []item {
	rng := rand.New(rand.NewPCG(1, 2))
	items := []item{{"", "empty key", 0}, {"a", "", 0}, {"b", "expires", 1 << 60}}
	for i := range 40 {
		v := make([]byte, rng.IntN(30_000))
		for j := range v {
			v[j] = byte(rng.Uint32())
		}
		items = append(items, item{fmt.Sprintf("c%03d", i), string(v), int64(i % 3)})
	}
	return append(items, item{"d", string(make([]byte, 3*ChunkBytes+17)), 0})
}

// TestReader: a Reader returns the records that a Writer wrote.
func TestReader(t *testing.T) {
	for n, want := range [][]item{nil, {{"a", "1", 0}}, someItems()} {
		stream := written(want)
		got, err := readAll(stream)
		if err != nil || len(got) != len(want) {
			t.Fatalf("stream %d: %d items of %d, %v", n, len(got), len(want), err)
		}
		for i := range want {
			if got[i] != want[i] {
				t.Errorf("stream %d: item %d is another", n, i)
			}
		}
		s, err := NewReader(bytes.NewReader(stream))
		if err != nil || s.Header() != (Header{ID: [16]byte{1}, At: 2, Keys: int64(len(want))}) {
			t.Errorf("stream %d: header %+v, %v", n, s.Header(), err)
		}
	}
}

// TestReaderDamaged: a stream with an inverted bit or a missing byte is refused. The records read
// before the error are the first records of the stream.
func TestReaderDamaged(t *testing.T) {
	want := []item{{"a", "1", 0}, {"b", string(make([]byte, 200)), 0}, {"c", "3", 7}}
	stream := written(want)
	check := func(what string, b []byte, kind error) {
		t.Helper()
		got, err := readAll(b)
		var e *Error
		if !errors.As(err, &e) || !errors.Is(err, kind) || e.Off < 0 || e.Off > int64(len(b)) {
			t.Errorf("%s: %v", what, err)
		}
		for i := range got {
			if got[i] != want[i] {
				t.Errorf("%s: invents %q", what, got[i].key)
			}
		}
	}
	for i := range stream {
		b := bytes.Clone(stream)
		b[i] ^= 1 << (i % 8)
		kind := alloc.ErrCorrupt
		if i < 8 {
			kind = ErrNotBackup
		}
		check(fmt.Sprint("byte ", i), b, kind)
		check(fmt.Sprint("cut to ", i), stream[:i], kind)
	}
	check("a byte behind the end", append(bytes.Clone(stream), 0), alloc.ErrCorrupt)
	later := Header{}
	b := later.encode()
	b[8] = 2
	sumHeader(b)
	check("a later version", b, alloc.ErrVersion)
}

// TestReaderForged: impossible records are refused although the checksum is right.
func TestReaderForged(t *testing.T) {
	rec := func(key, value string) []byte {
		return append([]byte{0, byte(len(key)), 0, byte(len(value)), 0, 0, 0}, key+value...)
	}
	for what, payload := range map[string][]byte{
		"key twice":             append(rec("a", "1"), rec("a", "2")...),
		"keys that descend":     append(rec("b", "1"), rec("a", "2")...),
		"unknown flags":         append([]byte{2}, rec("a", "1")[1:]...),
		"a value over 1 GiB":    {0, 1, 0, 0xff, 0xff, 0xff, 0xff, 'a'},
		"a value that is short": {0, 1, 0, 9, 0, 0, 0, 'a', 'b'},
		"a key that is short":   {0, 9, 0, 0, 0, 0, 0, 'a', 'b'},
		"half a header":         {0, 1},
		"one record too few":    nil,
	} {
		if _, err := readAll(forged(payload, 1)); !errors.Is(err, alloc.ErrCorrupt) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if _, err := readAll(forged(rec("a", "1"), 1)); err != nil {
		t.Errorf("one that can be: %v", err)
	}
}

// failing returns an error of its own after some bytes.
type failing struct {
	b   []byte
	err error
}

func (f *failing) Read(b []byte) (int, error) {
	if len(f.b) == 0 {
		return 0, f.err
	}
	n := copy(b, f.b)
	f.b = f.b[n:]
	return n, nil
}

// TestReaderFails: an error of the underlying reader is passed on and is not reported as damage.
func TestReaderFails(t *testing.T) {
	stream := written([]item{{"a", "1", 0}})
	broken := errors.New("broken")
	for n := range stream {
		s, err := NewReader(&failing{stream[:n:n], broken})
		for err == nil {
			_, _, _, err = s.Next()
		}
		if !errors.Is(err, broken) || errors.Is(err, alloc.ErrCorrupt) {
			t.Errorf("after %d bytes: %v", n, err)
		}
	}
}

// FuzzReader: a reader ends, with an error that names a place or with records in order. Written
// again, these give the same records. The first byte of the input says whether the rest is a stream
// or a payload, around which the test puts right checksums.
func FuzzReader(f *testing.F) {
	f.Add(append([]byte{0}, written([]item{{"a", "1", 0}, {"b", "2", 9}})...))
	f.Add([]byte{3, 1, 1, 0, 1, 0, 0, 0, 255, 255, 255, 255, 255, 255, 255, 127, 'k', 'v'})
	f.Add([]byte{1, 0, 1, 0, 0xff, 0xff, 0xff, 0x3f, 'a'})
	f.Fuzz(func(t *testing.T, in []byte) {
		if len(in) == 0 {
			return
		}
		stream := in[1:]
		if in[0]&1 != 0 {
			stream = forged(in[1:], uint64(in[0]>>1))
		}
		items, err := readAll(stream)
		var e *Error
		if err != nil && (!errors.As(err, &e) || e.Off < 0 || e.Off > int64(len(stream))) {
			t.Fatal(err)
		}
		for i := 1; i < len(items); i++ {
			if items[i-1].key >= items[i].key {
				t.Fatalf("%q before %q", items[i-1].key, items[i].key)
			}
		}
		if again, err := readAll(written(items)); err != nil || fmt.Sprint(again) != fmt.Sprint(items) {
			t.Fatalf("written again: %v", err)
		}
	})
}
