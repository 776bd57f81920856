package kv

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"sync"

	"nvkv/internal/crc32c"
	"nvkv/kv/internal/record"
	"nvkv/nvmap"
)

// ValueReader reads a value in parts, without the whole value in memory. It is an io.ReaderAt, an
// io.ReadSeeker and an io.WriterTo, valid until its Tx ends; later calls return ErrTxClosed.
//
// Every byte that it returns has been verified. The one checksum of a value covers the whole, so
// Tx.Reader reads the value once and keeps a checksum of each 64 KiB. A read verifies those parts
// that it touches. Damage, and a place where the medium fails, is ErrCorrupt or ErrMediaFault.
//
// ReadAt and Size may be called by several goroutines at once, as far as the Tx may; Read, Seek and
// WriteTo move one position and are for one goroutine at a time.
type ValueReader struct {
	tx    *Tx
	size  int64
	pos   int64
	mem   []byte      // the value itself, if it is not in runs
	parts []valuePart // on the medium, in order
	sums  []uint32    // of each partBytes
	at    nvmap.Off   // of the record
	key   []byte
	ahead []byte // the rest of the part at pos, for short Reads
}

var _ interface {
	io.ReaderAt
	io.ReadSeeker
	io.WriterTo
} = (*ValueReader)(nil)

// valuePart is a contiguous part of a value on the medium.
type valuePart struct {
	from, to int64 // in the value; a key in runs lies in front of it, at negative offsets
	off      nvmap.Off
}

// partBytes is how many bytes of a value have a checksum of their own in DRAM.
const partBytes = 64 << 10

var partBuffers = sync.Pool{New: func() any { return new([partBytes]byte) }}

// Reader returns a reader of the value of key, or ErrNotFound. It reads the whole value once, a part
// at a time, to verify it. Of a key that a writable Tx has put, it reads the value at the time of
// the call.
func (tx *Tx) Reader(key []byte) (r *ValueReader, err error) {
	s, err := tx.enter()
	if err != nil {
		return nil, err
	}
	defer tx.leaveGet(s)
	r = &ValueReader{tx: tx, key: bytes.Clone(key)}
	if n := tx.changed(key); n != nil {
		if n.kind == record.KindDelete {
			return nil, ErrNotFound
		}
		r.mem = bytes.Clone(n.value())
		r.size = int64(len(r.mem))
		return r, nil
	}
	defer tx.db.guarded("get", panicOnFault(true), &err)
	rec, err := tx.db.recordAt(key, tx.root, tx.at)
	if err != nil {
		return nil, err
	}
	r.size, r.at = int64(rec.ValLen), rec.Off
	if !rec.Spilled() {
		r.mem = bytes.Clone(rec.Value)
		return r, nil
	}
	if err := r.verify(rec); err != nil {
		return nil, err
	}
	return r, nil
}

// verify finds the parts of a value in runs, and sums them.
func (r *ValueReader) verify(rec *record.Record) error {
	l, err := r.tx.db.runs(rec)
	if err != nil {
		return err
	}
	keyBytes := rec.SpilledBytes() - r.size // in front of the value, fewer than partBytes
	at := -keyBytes
	for _, e := range l.Data() {
		if to := min(at+e.Bytes, r.size); at < to {
			r.parts = append(r.parts, valuePart{at, to, e.Off})
		}
		at += e.Bytes
	}
	if at < r.size {
		return r.damaged()
	}
	buf := partBuffers.Get().(*[partBytes]byte)
	defer partBuffers.Put(buf)
	if !r.load(-keyBytes, buf[:keyBytes]) {
		return r.damaged()
	}
	sum := crc32c.Sum(buf[:keyBytes], nil)
	for from := int64(0); from < r.size; from += partBytes {
		b := buf[:min(partBytes, r.size-from)]
		if !r.load(from, b) {
			return r.damaged()
		}
		sum = crc32c.Update(sum, b, nil)
		r.sums = append(r.sums, crc32c.Sum(b, nil))
	}
	if sum != l.Sum {
		return r.damaged()
	}
	return nil
}

// load fills b with the bytes from from on. It returns false if they lie outside the
// device.
func (r *ValueReader) load(from int64, b []byte) bool {
	for _, p := range r.parts[r.partOf(from):] {
		if len(b) == 0 {
			break
		}
		n := min(int64(len(b)), p.to-from)
		got := b[:n:n]
		src := r.tx.db.piece(p.off+nvmap.Off(from-p.from), int(n), &got)
		if src == nil {
			return false
		}
		copy(b, src) // onto itself, if the device is not mapped
		b, from = b[n:], from+n
	}
	return len(b) == 0
}

// partOf returns the index of the part with byte at.
func (r *ValueReader) partOf(at int64) int {
	low, high := 0, len(r.parts)
	for low < high {
		if mid := (low + high) / 2; r.parts[mid].to <= at {
			low = mid + 1
		} else {
			high = mid
		}
	}
	return low
}

func (r *ValueReader) damaged() error {
	return &CorruptError{Off: uint64(r.at), Structure: "runs of a record", Key: r.key}
}

// Size returns the length of the value in bytes.
func (r *ValueReader) Size() int64 { return r.size }

// ReadAt implements io.ReaderAt.
func (r *ValueReader) ReadAt(p []byte, off int64) (n int, err error) {
	s, err := r.tx.enter()
	if err != nil {
		return 0, err
	}
	defer r.tx.leaveGet(s)
	if off < 0 {
		return 0, errors.New("nvkv: read at a negative offset in a value")
	}
	if len(p) == 0 {
		return 0, nil
	}
	if off >= r.size {
		return 0, io.EOF
	}
	short := int64(len(p)) > r.size-off
	if short {
		p = p[:r.size-off]
	}
	defer r.tx.db.guarded("get", panicOnFault(true), &err)
	for n < len(p) {
		m, err := r.readPart(p[n:], off+int64(n))
		if n += m; err != nil {
			return n, err
		}
	}
	if short {
		return n, io.EOF
	}
	return n, nil
}

// readPart reads bytes up to the end of the summed part in which off lies.
func (r *ValueReader) readPart(p []byte, off int64) (n int, err error) {
	if r.parts == nil {
		return copy(p, r.mem[off:]), nil
	}
	i := off / partBytes
	from := i * partBytes
	size := min(partBytes, r.size-from)
	if from == off && int64(len(p)) >= size { // the whole part, without a copy in between
		b := p[:size]
		if !r.load(from, b) || crc32c.Sum(b, nil) != r.sums[i] {
			clear(b) // no byte that was not verified
			return 0, r.damaged()
		}
		return len(b), nil
	}
	buf := partBuffers.Get().(*[partBytes]byte)
	defer partBuffers.Put(buf)
	b := buf[:size]
	if !r.load(from, b) || crc32c.Sum(b, nil) != r.sums[i] {
		return 0, r.damaged()
	}
	return copy(p, b[off-from:]), nil
}

// Read implements io.Reader.
func (r *ValueReader) Read(p []byte) (n int, err error) {
	switch {
	case len(p) >= partBytes || r.parts == nil || r.pos >= r.size:
		r.ahead = nil
		n, err = r.ReadAt(p, r.pos)
	case len(r.ahead) == 0:
		if r.ahead, err = r.readAhead(); err != nil {
			return 0, err
		}
		fallthrough
	default:
		if n, err = copy(p, r.ahead), nil; r.tx.over() {
			return 0, ErrTxClosed
		}
		r.ahead = r.ahead[n:]
	}
	r.pos += int64(n)
	if n > 0 && err == io.EOF {
		err = nil // the next call returns it
	}
	return n, err
}

// readAhead returns the bytes from pos to the end of its part.
func (r *ValueReader) readAhead() ([]byte, error) {
	b := make([]byte, min(partBytes-r.pos%partBytes, r.size-r.pos))
	_, err := r.ReadAt(b, r.pos)
	if err != nil {
		return nil, err
	}
	return b, nil
}

// Seek implements io.Seeker.
func (r *ValueReader) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekStart:
	case io.SeekCurrent:
		offset += r.pos
	case io.SeekEnd:
		offset += r.size
	default:
		return r.pos, fmt.Errorf("nvkv: seek in a value from %d, which is no io.Seek constant", whence)
	}
	if offset < 0 {
		return r.pos, fmt.Errorf("nvkv: seek to %d in a value", offset)
	}
	if offset != r.pos {
		r.pos, r.ahead = offset, nil
	}
	return offset, nil
}

// WriteTo implements io.WriterTo. It writes the rest of the value, in parts of 64 KiB.
func (r *ValueReader) WriteTo(w io.Writer) (n int64, err error) {
	r.ahead = nil
	buf := make([]byte, partBytes)
	for r.pos < r.size {
		b := buf[:min(partBytes-r.pos%partBytes, r.size-r.pos)]
		if _, err := r.ReadAt(b, r.pos); err != nil {
			return n, err
		}
		m, err := w.Write(b)
		n, r.pos = n+int64(m), r.pos+int64(m)
		if err != nil {
			return n, err
		}
		if m < len(b) {
			return n, io.ErrShortWrite
		}
	}
	return n, nil
}
