package kv

import (
	"bytes"

	"nvkv/kv/internal/record"
)

// keyRange is the keys from start up to end; a nil end is open.
type keyRange struct{ start, end []byte }

// empty says whether no key lies in the range.
func (r keyRange) empty() bool { return emptyRange(r.start, r.end) }

// rangeOf returns the range of the keys of [start, end) with bounds that a record
// can hold: no key is longer than MaxKeyBytes, so a longer bound means the same as
// one that is cut.
func rangeOf(start, end []byte) keyRange {
	r := keyRange{start: start, end: end}
	if len(end) > record.MaxRangeEnd {
		r.end = end[:record.MaxRangeEnd]
	}
	if len(start) > MaxKeyBytes {
		// Above it lie the keys above its first MaxKeyBytes bytes, without that key.
		if r.start = above(start[:MaxKeyBytes]); r.start == nil {
			return keyRange{start: nil, end: []byte{}}
		}
	}
	return r
}

// above returns the first of the keys that are above key, which is as long as keys
// can be; nil if there is none.
func above(key []byte) []byte {
	n := len(key)
	for n > 0 && key[n-1] == 0xff {
		n--
	}
	if n == 0 {
		return nil
	}
	next := bytes.Clone(key[:n])
	next[n-1]++
	return next
}

// emptyRange says whether [start, end) holds no key; inside whether a key is
// below end. A nil end is open, one that is empty but not nil leaves nothing.
func emptyRange(start, end []byte) bool { return end != nil && bytes.Compare(start, end) >= 0 }
func inside(key, end []byte) bool       { return end == nil || bytes.Compare(key, end) < 0 }
