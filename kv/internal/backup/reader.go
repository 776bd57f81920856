package backup

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"slices"

	"nvkv/alloc"
	"nvkv/kv/internal/record"
)

// Reader reads a stream that a Writer wrote. It uses no byte before it has verified the checksum
// that covers it.
type Reader struct {
	r       io.Reader
	off     int64  // bytes read
	at      int64  // offset of the current chunk
	chunk   []byte // header and payload of the current chunk
	left    []byte // the part of the payload that was not consumed yet
	sum     uint32
	records uint64
	payload uint64
	ended   bool // the trailer was read
	header  Header
	last    []byte // key of the last record
	spare   []byte // memory for the next key
	value   []byte
	begun   bool
}

// Header returns the header of the stream.
func (s *Reader) Header() Header { return s.header }

// Records returns how many records Next has returned.
func (s *Reader) Records() int64 { return int64(s.records) }

// NewReader reads and verifies the header of a stream.
func NewReader(r io.Reader) (*Reader, error) {
	s := &Reader{r: r, chunk: make([]byte, chunkHeader)}
	var b [HeaderBytes]byte
	// The magic is read first, since a file that is no backup may be shorter than a header.
	if err := s.read(b[:8]); err != nil {
		return nil, notBackup(err)
	}
	le := binary.LittleEndian
	if le.Uint64(b[:]) != magic {
		return nil, &Error{0, "not a backup: " + alloc.Describe(b[:8]), ErrNotBackup}
	}
	if err := s.read(b[8:]); err != nil {
		return nil, err
	}
	s.sum = crc32.Checksum(b[:headerSum], castagnoli)
	if le.Uint32(b[headerSum:]) != s.sum {
		return nil, s.damaged(0, "the header's checksum does not match")
	}
	if v := le.Uint32(b[8:]); v != version {
		return nil, &Error{8, fmt.Sprintf("version %d, this program knows %d", v, version), alloc.ErrVersion}
	}
	copy(s.header.ID[:], b[16:32])
	s.header.At = int64(le.Uint64(b[32:]))
	s.header.Keys = int64(le.Uint64(b[40:]))
	return s, nil
}

// notBackup turns the error of a stream that ends inside its magic into ErrNotBackup.
func notBackup(err error) error {
	var e *Error
	if errors.As(err, &e) {
		e.What, e.Err = "not a backup: it ends here", ErrNotBackup
	}
	return err
}

func (s *Reader) damaged(at int64, format string, args ...any) error {
	return &Error{at, fmt.Sprintf(format, args...), alloc.ErrCorrupt}
}

func (s *Reader) read(b []byte) error {
	n, err := io.ReadFull(s.r, b)
	s.off += int64(n)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF):
		return s.damaged(s.off, "the stream ends here, before its trailer")
	}
	return fmt.Errorf("nvkv: backup: reading at byte %d: %w", s.off, err)
}

// fill reads a chunk, or the trailer, and verifies it.
func (s *Reader) fill() error {
	s.at = s.off
	s.chunk = s.chunk[:chunkHeader]
	if err := s.read(s.chunk); err != nil {
		return err
	}
	le := binary.LittleEndian
	n := int(le.Uint32(s.chunk))
	if n > ChunkBytes {
		return s.damaged(s.at, "a chunk of %d bytes, at most %d", n, ChunkBytes)
	}
	size := n
	if n == 0 {
		size = trailerBytes
	}
	s.chunk = append(s.chunk, make([]byte, size)...)
	if err := s.read(s.chunk[chunkHeader:]); err != nil {
		return err
	}
	if s.sum = chunkSum(s.sum, s.chunk); le.Uint32(s.chunk[4:]) != s.sum {
		return s.damaged(s.at, "the checksum of a chunk of %d bytes does not match", n)
	}
	if n == 0 {
		return s.trailer(s.chunk[chunkHeader:])
	}
	s.left = s.chunk[chunkHeader:]
	s.payload += uint64(n)
	return nil
}

func (s *Reader) trailer(b []byte) error {
	le := binary.LittleEndian
	s.ended = true
	if n := le.Uint64(b); n != s.records {
		return s.damaged(s.at, "%d records, the trailer counts %d", s.records, n)
	}
	if n := le.Uint64(b[8:]); n != s.payload {
		return s.damaged(s.at, "%d bytes of records, the trailer counts %d", s.payload, n)
	}
	return nil
}

// End returns an error if bytes follow the trailer. They are no part of the backup, and the caller
// may have expected them to be.
func (s *Reader) End() error {
	var b [1]byte
	switch n, err := io.ReadFull(s.r, b[:]); {
	case n > 0:
		return s.damaged(s.off, "bytes follow the end of the backup")
	case err != io.EOF:
		return fmt.Errorf("nvkv: backup: reading at byte %d, behind its end: %w", s.off, err)
	}
	return nil
}

// take appends n bytes of payload to dst. It grows dst as the bytes arrive, to twice its size each
// time, so an impossible length costs no memory.
func (s *Reader) take(dst []byte, n int) ([]byte, error) {
	for n > 0 {
		if len(s.left) == 0 {
			if err := s.fill(); err != nil {
				return nil, err
			}
			if s.ended {
				return nil, s.damaged(s.at, "the stream ends inside a record")
			}
		}
		k := min(n, len(s.left))
		if cap(dst)-len(dst) < k {
			dst = slices.Grow(dst, min(n, max(k, len(dst))))
		}
		dst = append(dst, s.left[:k]...)
		s.left = s.left[k:]
		n -= k
	}
	return dst, nil
}

// Next returns the next record, and io.EOF after the last one. The slices are valid until the next
// call. expiry is in Unix nanoseconds, 0 for none.
func (s *Reader) Next() (key, value []byte, expiry int64, err error) {
	if len(s.left) == 0 && !s.ended {
		if err := s.fill(); err != nil {
			return nil, nil, 0, err
		}
	}
	if s.ended {
		return nil, nil, 0, io.EOF
	}
	at := s.off - int64(len(s.left))
	h, err := s.take(make([]byte, 0, recordHeader+8), recordHeader)
	if err != nil {
		return nil, nil, 0, err
	}
	le := binary.LittleEndian
	flags, keyLen, valLen := h[0], int(le.Uint16(h[1:])), le.Uint32(h[3:])
	if flags&^flagExpiry != 0 || valLen > record.MaxValueBytes {
		return nil, nil, 0, s.damaged(at, "a record with flags %#x and a value of %d bytes", flags, valLen)
	}
	if flags&flagExpiry != 0 {
		if h, err = s.take(h[:0], 8); err != nil {
			return nil, nil, 0, err
		}
		expiry = int64(le.Uint64(h))
	}
	return s.body(at, keyLen, int(valLen), expiry)
}

// body reads key and value of the record that begins at byte at of the stream.
func (s *Reader) body(at int64, keyLen, valLen int, expiry int64) ([]byte, []byte, int64, error) {
	key, err := s.take(s.spare[:0], keyLen)
	if err != nil {
		return nil, nil, 0, err
	}
	if s.begun && string(key) <= string(s.last) {
		return nil, nil, 0, s.damaged(at, "key %q does not follow %q", clipped(key), clipped(s.last))
	}
	if s.value, err = s.take(s.value[:0], valLen); err != nil {
		return nil, nil, 0, err
	}
	s.spare, s.last, s.begun = s.last, key, true
	s.records++
	return key, s.value, expiry, nil
}

// clipped shortens a key for a message.
func clipped(key []byte) []byte { return key[:min(len(key), 64)] }
