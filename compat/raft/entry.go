package nvkvraft

import (
	"encoding/binary"
	"errors"
	"time"

	"github.com/hashicorp/raft"
)

// An entry is stored as
//
//	1 byte    entryFormat, with timePresent where the entry has a time
//	1 byte    type
//	uvarint   term
//	uvarint   0, or 1 + the distance from the commit index up to this entry's index
//	varint    seconds of AppendedAt since 1970      where timePresent is set
//	uvarint   and its nanoseconds                   where timePresent is set
//	uvarint   length of the extensions
//	          the extensions, then the data up to the end
const (
	entryFormat = 0x10
	timePresent = 0x01

	entryHeadMax = 2 + 5*binary.MaxVarintLen64
)

var errEntry = errors.New("nvkvraft: an entry is damaged")

// appendEntry appends l to dst. commit is the commit index that raft staged last; 0: none.
func appendEntry(dst []byte, l *raft.Log, commit uint64) []byte {
	form := byte(entryFormat)
	if !l.AppendedAt.IsZero() {
		form |= timePresent
	}
	dst = append(dst, form, byte(l.Type))
	dst = binary.AppendUvarint(dst, l.Term)
	distance := uint64(0)
	if commit > 0 {
		distance = 1 + l.Index - min(commit, l.Index)
	}
	dst = binary.AppendUvarint(dst, distance)
	if form&timePresent != 0 {
		dst = binary.AppendVarint(dst, l.AppendedAt.Unix())
		dst = binary.AppendUvarint(dst, uint64(l.AppendedAt.Nanosecond()))
	}
	dst = binary.AppendUvarint(dst, uint64(len(l.Extensions)))
	dst = append(dst, l.Extensions...)
	return append(dst, l.Data...)
}

// readEntry sets all of l from the entry b of an index and returns the commit index that b
// carries. Slices of l alias b.
func readEntry(l *raft.Log, index uint64, b []byte) (commit uint64, err error) {
	if len(b) < 2 || b[0]&^timePresent != entryFormat {
		return 0, errEntry
	}
	r := varints{b: b[2:]}
	*l = raft.Log{Index: index, Type: raft.LogType(b[1])}
	l.Term = r.unsigned()
	if distance := r.unsigned(); distance > index+1 {
		return 0, errEntry
	} else if distance > 0 {
		commit = index + 1 - distance
	}
	if b[0]&timePresent != 0 {
		sec, nsec := r.signed(), r.unsigned()
		if nsec >= uint64(time.Second) {
			return 0, errEntry
		}
		l.AppendedAt = time.Unix(sec, int64(nsec)).UTC()
	}
	extensions := r.unsigned()
	if r.bad || extensions > uint64(len(r.b)) {
		return 0, errEntry
	}
	if n := int(extensions); n > 0 {
		l.Extensions = r.b[:n:n]
		r.b = r.b[n:]
	}
	if len(r.b) > 0 {
		l.Data = r.b[:len(r.b):len(r.b)]
	}
	return commit, nil
}

// varints reads numbers from the front of b. After the first that is none, bad is set.
type varints struct {
	b   []byte
	bad bool
}

func (r *varints) unsigned() uint64 {
	v, n := binary.Uvarint(r.b)
	return take(r, v, n)
}

func (r *varints) signed() int64 {
	v, n := binary.Varint(r.b)
	return take(r, v, n)
}

func take[T int64 | uint64](r *varints, v T, n int) T {
	if n <= 0 {
		r.bad, r.b = true, nil
		return 0
	}
	r.b = r.b[n:]
	return v
}
