package kv

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"slices"
)

// A backup is a stream: a header, chunks, a trailer. The payloads of the chunks,
// put together, are the records, in ascending order of their keys; a record may
// go on in the next chunk. Every checksum covers the whole stream before it, so
// a chunk that is missing, repeated or from another backup does not pass.
// Format: docs/backup.md. All integers are little-endian.
//
//	header   magic 8 | version 4 | zero 4 | store id 16 | time 8 | keys 8 | zero 12 | checksum 4
//	chunk    payload bytes 4 | checksum 4 | payload
//	trailer  zero 4 | checksum 4 | records 8 | payload bytes 8
//	record   flags 1 | key length 2 | value length 4 | expiry 8 if flagged | key | value
const (
	streamMagic   = 0x5055_4b42_766b_766e // "nvkvBKUP"
	streamVersion = 1

	streamHeaderBytes  = 64
	streamHeaderSum    = 60
	streamChunkHeader  = 8
	streamTrailerBytes = 16
	streamRecordHeader = 7
	streamFlagExpiry   = 1 << 0

	// streamChunkBytes bounds a payload: what a reader must hold before it can
	// believe any of it.
	streamChunkBytes = 256 << 10
)

// BackupError says where a backup stream is not what it must be. It unwraps to
// ErrCorrupt, or to ErrVersion where the stream is of a later version, or to
// ErrNotBackup where it is none.
type BackupError struct {
	Off  int64 // bytes from the beginning of the stream
	What string
	Err  error
}

func (e *BackupError) Error() string {
	return fmt.Sprintf("nvkv: backup: at byte %d: %s", e.Off, e.What)
}

func (e *BackupError) Unwrap() error { return e.Err }

// ErrNotBackup says that a stream does not begin as a backup does.
var ErrNotBackup = errors.New("nvkv: not a backup")

// streamHeader is what a backup says of itself first.
type streamHeader struct {
	id   [16]byte // of the store
	at   int64    // time of the snapshot, Unix nanoseconds
	keys int64    // records at most: some may have expired
}

func (h *streamHeader) encode() []byte {
	b := make([]byte, streamHeaderBytes)
	le := binary.LittleEndian
	le.PutUint64(b[0:], streamMagic)
	le.PutUint32(b[8:], streamVersion)
	copy(b[16:32], h.id[:])
	le.PutUint64(b[32:], uint64(h.at))
	le.PutUint64(b[40:], uint64(h.keys))
	le.PutUint32(b[streamHeaderSum:], crc32.Checksum(b[:streamHeaderSum], castagnoli))
	return b
}

// streamWriter cuts records into chunks. The first error stays.
type streamWriter struct {
	w       io.Writer
	buf     []byte // room for a chunk header, then payload
	sum     uint32 // of the stream so far, checksums apart
	records uint64
	payload uint64
	written int64
	err     error
}

func newStreamWriter(w io.Writer, h *streamHeader) *streamWriter {
	s := &streamWriter{w: w, buf: make([]byte, streamChunkHeader, streamChunkHeader+streamChunkBytes)}
	b := h.encode()
	s.sum = crc32.Checksum(b[:streamHeaderSum], castagnoli)
	s.emit(b)
	return s
}

func (s *streamWriter) emit(b []byte) {
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

func (s *streamWriter) record(key, value []byte, expiry int64) {
	var h [streamRecordHeader + 8]byte
	le := binary.LittleEndian
	le.PutUint16(h[1:], uint16(len(key)))
	le.PutUint32(h[3:], uint32(len(value)))
	n := streamRecordHeader
	if expiry != 0 {
		h[0] = streamFlagExpiry
		le.PutUint64(h[n:], uint64(expiry))
		n += 8
	}
	s.add(h[:n])
	s.add(key)
	s.add(value)
	s.records++
}

func (s *streamWriter) add(b []byte) {
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
func (s *streamWriter) flush() {
	n := len(s.buf) - streamChunkHeader
	if n == 0 {
		return
	}
	s.payload += uint64(n)
	s.seal(s.buf, uint32(n))
	s.emit(s.buf)
	s.buf = s.buf[:streamChunkHeader]
}

// seal fills in the header of a chunk.
func (s *streamWriter) seal(b []byte, n uint32) {
	le := binary.LittleEndian
	le.PutUint32(b, n)
	s.sum = chunkSum(s.sum, b)
	le.PutUint32(b[4:], s.sum)
}

// chunkSum goes on from the checksum of the stream before a chunk.
func chunkSum(before uint32, chunk []byte) uint32 {
	return crc32.Update(crc32.Update(before, castagnoli, chunk[:4]), castagnoli, chunk[streamChunkHeader:])
}

// finish writes what is left and the trailer.
func (s *streamWriter) finish() error {
	s.flush()
	b := make([]byte, streamChunkHeader+streamTrailerBytes)
	le := binary.LittleEndian
	le.PutUint64(b[streamChunkHeader:], s.records)
	le.PutUint64(b[streamChunkHeader+8:], s.payload)
	s.seal(b, 0)
	s.emit(b)
	return s.err
}

// streamReader reads what a streamWriter wrote and believes nothing that no
// checksum covers. It reads up to the end of the backup and not beyond.
type streamReader struct {
	r       io.Reader
	off     int64  // bytes read
	at      int64  // where the chunk under way begins
	chunk   []byte // header and payload of the chunk under way
	left    []byte // payload that is not consumed
	sum     uint32
	records uint64
	payload uint64
	ended   bool // the trailer was read
	header  streamHeader
	last    []byte // key of the last record
	spare   []byte // memory for the next key
	value   []byte
	begun   bool
}

func newStreamReader(r io.Reader) (*streamReader, error) {
	s := &streamReader{r: r, chunk: make([]byte, streamChunkHeader)}
	var b [streamHeaderBytes]byte
	// The magic first: what is no backup may be shorter than a header.
	if err := s.read(b[:8]); err != nil {
		return nil, notBackup(err)
	}
	le := binary.LittleEndian
	if le.Uint64(b[:]) != streamMagic {
		return nil, &BackupError{0, fmt.Sprintf("not a backup: it begins with %q", b[:8]), ErrNotBackup}
	}
	if err := s.read(b[8:]); err != nil {
		return nil, err
	}
	s.sum = crc32.Checksum(b[:streamHeaderSum], castagnoli)
	if le.Uint32(b[streamHeaderSum:]) != s.sum {
		return nil, s.damaged(0, "the header's checksum does not match")
	}
	if v := le.Uint32(b[8:]); v != streamVersion {
		return nil, &BackupError{8, fmt.Sprintf("version %d, this program knows %d", v, streamVersion), ErrVersion}
	}
	copy(s.header.id[:], b[16:32])
	s.header.at = int64(le.Uint64(b[32:]))
	s.header.keys = int64(le.Uint64(b[40:]))
	return s, nil
}

// notBackup makes a stream that ends before its magic one that is no backup.
func notBackup(err error) error {
	var e *BackupError
	if errors.As(err, &e) {
		e.What, e.Err = "not a backup: it ends here", ErrNotBackup
	}
	return err
}

func (s *streamReader) damaged(at int64, format string, args ...any) error {
	return &BackupError{at, fmt.Sprintf(format, args...), ErrCorrupt}
}

func (s *streamReader) read(b []byte) error {
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

// next reads a chunk and verifies it.
func (s *streamReader) next() error {
	s.at = s.off
	s.chunk = s.chunk[:streamChunkHeader]
	if err := s.read(s.chunk); err != nil {
		return err
	}
	le := binary.LittleEndian
	n := int(le.Uint32(s.chunk))
	if n > streamChunkBytes {
		return s.damaged(s.at, "a chunk of %d bytes, at most %d", n, streamChunkBytes)
	}
	size := n
	if n == 0 {
		size = streamTrailerBytes
	}
	s.chunk = append(s.chunk, make([]byte, size)...)
	if err := s.read(s.chunk[streamChunkHeader:]); err != nil {
		return err
	}
	if s.sum = chunkSum(s.sum, s.chunk); le.Uint32(s.chunk[4:]) != s.sum {
		return s.damaged(s.at, "the checksum of a chunk of %d bytes does not match", n)
	}
	if n == 0 {
		return s.trailer(s.chunk[streamChunkHeader:])
	}
	s.left = s.chunk[streamChunkHeader:]
	s.payload += uint64(n)
	return nil
}

func (s *streamReader) trailer(b []byte) error {
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

// take appends n bytes of payload to dst. It grows dst as they come, to twice as
// much each time: a length that cannot be true costs no memory.
func (s *streamReader) take(dst []byte, n int) ([]byte, error) {
	for n > 0 {
		if len(s.left) == 0 {
			if err := s.next(); err != nil {
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

// record returns the next record, io.EOF behind the last one. Its slices are
// valid until the next call.
func (s *streamReader) record() (key, value []byte, expiry int64, err error) {
	if len(s.left) == 0 && !s.ended {
		if err := s.next(); err != nil {
			return nil, nil, 0, err
		}
	}
	if s.ended {
		return nil, nil, 0, io.EOF
	}
	at := s.off - int64(len(s.left))
	h, err := s.take(make([]byte, 0, streamRecordHeader+8), streamRecordHeader)
	if err != nil {
		return nil, nil, 0, err
	}
	le := binary.LittleEndian
	flags, keyLen, valLen := h[0], int(le.Uint16(h[1:])), le.Uint32(h[3:])
	if flags&^streamFlagExpiry != 0 || valLen > MaxValueBytes {
		return nil, nil, 0, s.damaged(at, "a record with flags %#x and a value of %d bytes", flags, valLen)
	}
	if flags&streamFlagExpiry != 0 {
		if h, err = s.take(h[:0], 8); err != nil {
			return nil, nil, 0, err
		}
		expiry = int64(le.Uint64(h))
	}
	return s.body(at, keyLen, int(valLen), expiry)
}

// body reads key and value of the record that begins at byte at.
func (s *streamReader) body(at int64, keyLen, valLen int, expiry int64) ([]byte, []byte, int64, error) {
	key, err := s.take(s.spare[:0], keyLen)
	if err != nil {
		return nil, nil, 0, err
	}
	if s.begun && string(key) <= string(s.last) {
		return nil, nil, 0, s.damaged(at, "key %q does not follow %q", clip(key), clip(s.last))
	}
	if s.value, err = s.take(s.value[:0], valLen); err != nil {
		return nil, nil, 0, err
	}
	s.spare, s.last, s.begun = s.last, key, true
	s.records++
	return key, s.value, expiry, nil
}
