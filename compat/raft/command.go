package nvkvraft

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"time"

	"nvkv/kv"
)

// MaxKeyBytes bounds the keys of the state machine: its store puts one byte before each.
const MaxKeyBytes = kv.MaxKeyBytes - 1

// ErrCommand says that bytes are no command, or that a command cannot be carried out.
var ErrCommand = errors.New("nvkvraft: bad command")

// OpKind says what an Op does.
type OpKind byte

// The kinds of operations.
const (
	OpPut         OpKind = 1 + iota // Key gets Value, until Expiry where that is set
	OpDelete                        // Key is removed; it need not be there
	OpDeleteRange                   // the keys of [Key, End) are removed; a nil End is open
)

// Op is one change.
type Op struct {
	Kind   OpKind
	Key    []byte
	Value  []byte    // of OpPut
	End    []byte    // of OpDeleteRange
	Expiry time.Time // of OpPut; the zero time: lives for ever
}

// Condition holds if Key has Value, or if Absent is set and there is no such key.
type Condition struct {
	Key, Value []byte
	Absent     bool
}

// Command is what a raft entry tells the state machine. If all conditions hold, all operations
// are carried out in order, at one instant; else none is.
//
// A command of a session is carried out once, however often it is proposed: the state machine
// keeps the number and the result of a session's last request. A session has one request under
// way at a time. Register makes a session, whose number is the index of the entry.
type Command struct {
	Time     time.Time // of the leader that proposed it; expiry is judged by it
	Session  uint64    // 0: none
	Request  uint64    // from 1 on, rises from request to request of a session
	Register bool
	If       []Condition
	Do       []Op
}

// A command is stored as
//
//	1 byte   commandFormat
//	1 byte   1: Register; 0: else
//	varint   Time, nanoseconds since 1970
//	uvarint  Session, Request
//	uvarint  number of conditions; each: 1 byte Absent, key, value
//	uvarint  number of operations; each: 1 byte kind, key, and
//	         of OpPut: varint expiry in nanoseconds or 0, value
//	         of OpDeleteRange: 1 byte: is End set; End
//
// A key and a value have their length before them, as a uvarint.
const commandFormat = 0x20

// Encode returns the bytes of the command for raft.Apply, or why there are none.
func (c *Command) Encode() ([]byte, error) {
	b := []byte{commandFormat, flag(c.Register)}
	b = binary.AppendVarint(b, c.Time.UnixNano())
	b = binary.AppendUvarint(b, c.Session)
	b = binary.AppendUvarint(b, c.Request)
	b = binary.AppendUvarint(b, uint64(len(c.If)))
	for _, i := range c.If {
		b = appendBytes(append(b, flag(i.Absent)), i.Key)
		b = appendBytes(b, i.Value)
	}
	b = binary.AppendUvarint(b, uint64(len(c.Do)))
	for _, o := range c.Do {
		b = appendBytes(append(b, byte(o.Kind)), o.Key)
		switch o.Kind {
		case OpPut:
			b = appendBytes(binary.AppendVarint(b, expiryNanos(o.Expiry)), o.Value)
		case OpDeleteRange:
			b = appendBytes(append(b, flag(o.End != nil)), o.End)
		}
	}
	if _, err := DecodeCommand(b); err != nil {
		return nil, err
	}
	return b, nil
}

// expiryNanos returns an expiry as a command stores it. What is beyond 2262, the last year that a
// record of kv can name, lives for ever, and what is before 1970 has expired by every clock.
func expiryNanos(t time.Time) int64 {
	switch {
	case t.IsZero() || t.After(time.Unix(0, math.MaxInt64)):
		return 0
	case !t.After(time.Unix(0, 0)):
		return 1
	}
	return t.UnixNano()
}

func flag(set bool) byte {
	if set {
		return 1
	}
	return 0
}

func appendBytes(dst, b []byte) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(b))), b...)
}

// DecodeCommand reads a command. Its slices alias b. Whatever b holds, a command that it returns
// can be carried out.
func DecodeCommand(b []byte) (*Command, error) {
	if len(b) < 2 || b[0] != commandFormat || b[1] > 1 {
		return nil, fmt.Errorf("%w: unknown form", ErrCommand)
	}
	r := commandReader{varints{b: b[2:]}}
	c := &Command{Register: b[1] == 1, Time: time.Unix(0, r.signed()).UTC()}
	c.Session, c.Request = r.unsigned(), r.unsigned()
	for range r.count() {
		c.If = append(c.If, Condition{Absent: r.byte() != 0, Key: r.key(), Value: r.bytes()})
	}
	for range r.count() {
		o := Op{Kind: OpKind(r.byte()), Key: r.key()}
		switch o.Kind {
		case OpPut:
			if at := r.signed(); at != 0 {
				o.Expiry = time.Unix(0, at).UTC()
			}
			if o.Value = r.bytes(); len(o.Value) > kv.MaxValueBytes {
				r.bad = true
			}
		case OpDelete:
		case OpDeleteRange:
			open := r.byte() == 0
			if o.End = r.key(); open {
				o.End = nil
			}
		default:
			r.bad = true
		}
		c.Do = append(c.Do, o)
	}
	switch {
	case r.bad:
		return nil, fmt.Errorf("%w: damaged, or a key is longer than %d bytes", ErrCommand, MaxKeyBytes)
	case len(r.b) > 0:
		return nil, fmt.Errorf("%w: %d bytes behind it", ErrCommand, len(r.b))
	case c.Session != 0 && c.Request == 0:
		return nil, fmt.Errorf("%w: request 0 of a session; they count from 1", ErrCommand)
	}
	return c, nil
}

type commandReader struct{ varints }

// count reads a number of parts, each of which takes a byte at least.
func (r *commandReader) count() uint64 {
	n := r.unsigned()
	if n > uint64(len(r.b)) {
		r.bad, r.b = true, nil
		return 0
	}
	return n
}

func (r *commandReader) byte() byte {
	if len(r.b) == 0 {
		r.bad = true
		return 0
	}
	v := r.b[0]
	r.b = r.b[1:]
	return v
}

// bytes returns an empty slice for no bytes, not nil.
func (r *commandReader) bytes() []byte {
	n := r.count()
	if n == 0 {
		return []byte{}
	}
	v := r.b[:n:n]
	r.b = r.b[n:]
	return v
}

func (r *commandReader) key() []byte {
	k := r.bytes()
	if len(k) > MaxKeyBytes {
		r.bad = true
	}
	return k
}
