package backup

import (
	"encoding/binary"
	"hash/crc32"
	"io"
)

// Writer writes records as a stream of chunks. After an error it writes nothing more, and every
// call returns that first error.
type Writer struct {
	w       io.Writer
	buf     []byte // space for a chunk header, then the payload
	sum     uint32 // of the stream so far, without checksums
	records uint64
	payload uint64
	written int64
	err     error
}

// NewWriter begins a stream: it writes the header.
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

// Put appends a record, whose key must be above those before. It returns the first error of the
// stream. expiry is in Unix nanoseconds, 0 for none. Put keeps neither slice.
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

// RecordBytes returns how many bytes of payload Put writes for a record.
func RecordBytes(key, value int, expires bool) int64 {
	n := int64(recordHeader) + int64(key) + int64(value)
	if expires {
		n += 8
	}
	return n
}

// StreamBytes returns how long a stream with so many bytes of payload is.
func StreamBytes(payload int64) int64 {
	chunks := (payload + ChunkBytes - 1) / ChunkBytes
	return HeaderBytes + payload + (chunks+1)*chunkHeader + trailerBytes
}

// Records returns how many records Put has taken.
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

// flush writes the current chunk, unless it is empty.
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

// seal writes the header of a chunk with a payload of n bytes.
func (s *Writer) seal(b []byte, n uint32) {
	le := binary.LittleEndian
	le.PutUint32(b, n)
	s.sum = chunkSum(s.sum, b)
	le.PutUint32(b[4:], s.sum)
}

// Finish writes the last chunk and the trailer.
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
