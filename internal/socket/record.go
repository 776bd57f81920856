package socket

import (
	"encoding/binary"
	"fmt"
	"io"
)

// A record in a stream of data: the length of the key (4 bytes), of the value (8 bytes), the expiry
// in nanoseconds since 1970, 0 for none (8 bytes), the key, the value.
const recordBytes = 4 + 8 + 8

// These bound a record.
const (
	MaxKeyBytes   = 1<<16 - 1
	MaxValueBytes = 1 << 30
)

// AppendRecordHead appends the beginning of a record, up to its key. The value follows.
func AppendRecordHead(dst, key []byte, valueBytes int, expiry int64) []byte {
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(key)))
	dst = binary.LittleEndian.AppendUint64(dst, uint64(valueBytes))
	dst = binary.LittleEndian.AppendUint64(dst, uint64(expiry))
	return append(dst, key...)
}

// Records is the writer at the client's end of a stream of records. It calls Each for every record,
// with slices that are valid during the call.
type Records struct {
	Each func(key, value []byte, expiry int64) error
	held []byte // of a record that has not come as a whole
}

// Write takes the next bytes of the stream.
func (r *Records) Write(p []byte) (int, error) {
	r.held = append(r.held, p...)
	at := 0
	for {
		n, err := r.first(r.held[at:])
		if err != nil {
			return 0, err
		}
		if n == 0 {
			break
		}
		at += n
	}
	r.held = append(r.held[:0], r.held[at:]...)
	return len(p), nil
}

// first gives the record at the beginning of b to Each, and returns its length: 0 if not all of it
// is there.
func (r *Records) first(b []byte) (int, error) {
	if len(b) < recordBytes {
		return 0, nil
	}
	key, value := uint64(binary.LittleEndian.Uint32(b)), binary.LittleEndian.Uint64(b[4:])
	if key > MaxKeyBytes || value > MaxValueBytes {
		return 0, fmt.Errorf("%w: a record with a key of %d and a value of %d bytes", errProtocol, key, value)
	}
	n := recordBytes + int(key+value)
	if len(b) < n {
		return 0, nil
	}
	body := b[recordBytes:n:n]
	return n, r.Each(body[:key:key], body[key:], int64(binary.LittleEndian.Uint64(b[12:])))
}

// End returns an error if the stream ended inside a record.
func (r *Records) End() error {
	if len(r.held) > 0 {
		return fmt.Errorf("%w: the stream ends inside a record: %w", errProtocol, io.ErrUnexpectedEOF)
	}
	return nil
}
