package backup

import (
	"encoding/binary"
	"hash/crc32"
	"io"
)

// Writer cuts records into chunks. The first error stays.
type Writer struct {
	w       io.Writer
	buf     []byte // room for a chunk header, then payload
	sum     uint32 // of the stream so far, checksums apart
	records uint64
	payload uint64
	written int64
	err     error
}

// NewWriter begins a stream with its header.
func NewWriter(w io.Writer, h *Header) *Writer {
	s := &Writer{w: w, buf: make([]byte, chunkHeader, chunkHeader+ChunkBytes)}
	b := h.encode()
	s.sum = crc32.Checksum(b[:headerSum], castagnoli)
	s.emit(b)
	return s
}

func (s *Writer) emit(b []byte) {
	if s.err != nil {
		return
	}
	n, err := s.w.Write(b)
	s.written += int64(n)
	if err == nil && n < len(b) {
		err = io.ErrShortWrite
	}
	s.err = err
}

// Put puts a record behind those before, and returns the first error of the stream.
func (s *Writer) Put(key, value []byte, expiry int64) error {
	var h [recordHeader + 8]byte
	le := binary.LittleEndian
	le.PutUint16(h[1:], uint16(len(key)))
	le.PutUint32(h[3:], uint32(len(value)))
	n := recordHeader
	if expiry != 0 {
		h[0] = flagExpiry
		le.PutUint64(h[n:], uint64(expiry))
		n += 8
	}
	s.add(h[:n])
	s.add(key)
	s.add(value)
	s.records++
	return s.err
}

// Records returns how many records were put.
func (s *Writer) Records() int64 { return int64(s.records) }

// Written returns how many bytes of the stream were written.
func (s *Writer) Written() int64 { return s.written }

func (s *Writer) add(b []byte) {
	for len(b) > 0 {
		n := min(len(b), cap(s.buf)-len(s.buf))
		s.buf = append(s.buf, b[:n]...)
		b = b[n:]
		if len(s.buf) == cap(s.buf) {
			s.flush()
		}
	}
}

// flush ends the chunk under way, if it has anything.
func (s *Writer) flush() {
	n := len(s.buf) - chunkHeader
	if n == 0 {
		return
	}
	s.payload += uint64(n)
	s.seal(s.buf, uint32(n))
	s.emit(s.buf)
	s.buf = s.buf[:chunkHeader]
}

// seal fills in the header of a chunk.
func (s *Writer) seal(b []byte, n uint32) {
	le := binary.LittleEndian
	le.PutUint32(b, n)
	s.sum = chunkSum(s.sum, b)
	le.PutUint32(b[4:], s.sum)
}

// Finish writes what is left and the trailer.
func (s *Writer) Finish() error {
	s.flush()
	b := make([]byte, chunkHeader+trailerBytes)
	le := binary.LittleEndian
	le.PutUint64(b[chunkHeader:], s.records)
	le.PutUint64(b[chunkHeader+8:], s.payload)
	s.seal(b, 0)
	s.emit(b)
	return s.err
}
