package kv

import (
	"bytes"

	"nvkv/kv/internal/record"
)

// keyRange is the keys from start up to end, exclusively. A nil end is open.
type keyRange struct{ start, end []byte }

// empty says whether the range contains no possible key.
func (r keyRange) empty() bool { return emptyRange(r.start, r.end) }

// rangeOf returns the range [start, end) with bounds that a record can hold. No key is longer than
// MaxKeyBytes, so a longer bound can be replaced by a shorter one with the same meaning.
func rangeOf(start, end []byte) keyRange {
	r := keyRange{start: start, end: end}
	if len(end) > record.MaxRangeEnd {
		r.end = end[:record.MaxRangeEnd]
	}
	if len(start) > MaxKeyBytes {
		// The keys not below start are those above its first MaxKeyBytes bytes.
		if r.start = above(start[:MaxKeyBytes]); r.start == nil {
			return keyRange{start: nil, end: []byte{}}
		}
	}
	return r
}

// above returns the first key above key, which has the greatest length; nil if there is none.
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

// emptyRange says whether [start, end) contains no possible key; inside says whether key is below
// end. A nil end is open. An empty end that is not nil leaves no key.
func emptyRange(start, end []byte) bool { return end != nil && bytes.Compare(start, end) >= 0 }
func inside(key, end []byte) bool       { return end == nil || bytes.Compare(key, end) < 0 }
