package record

import (
	"encoding/binary"

	"nvkv/nvmap"
)

// Plain is the result of reading a record whose key and value lie in its slot. Both alias the bytes
// that were parsed.
type Plain struct{ Key, Value []byte }

// Parse decodes and verifies the record at the beginning of b if it is a plain one: a put with key
// and value in the slot and without an expiry, as most are. It returns false if the record is
// another one or damaged; Record.Parse and Record.Sealed tell which.
func (p *Plain) Parse(b []byte, seed uint64, carve uint32, off nvmap.Off) bool {
	key, value, end := PlainShape(b)
	if key == 0 || !sealedAt(b, key, end, seed, carve, off) {
		return false
	}
	p.Key, p.Value = b[key:value:value], b[value:end:end]
	return true
}

// PlainShape returns the offsets in b at which the key and the value of a plain record begin, and
// at which the record ends. It returns zeros if no plain record that lies within b begins there.
func PlainShape(b []byte) (key, value, end int) {
	if len(b) < HeaderBytes {
		return 0, 0, 0
	}
	w := binary.LittleEndian.Uint64(b[recValLen:]) // lengths, kind and flags
	switch w >> 48 {
	case KindPut:
		key = HeaderBytes
	case KindPut | FlagMulti<<8:
		key = HeaderBytes + MultiBytes
	default:
		return 0, 0, 0
	}
	value = key + int(w>>32&0xffff)
	n := w & 0xffffffff
	if n > uint64(len(b)) { // n may not fit an int
		return 0, 0, 0
	}
	if end = value + int(n); end > len(b) {
		return 0, 0, 0
	}
	return key, value, end
}

// SplitBody splits a body into a key of n bytes and the value.
func SplitBody(b []byte, n int) Plain { return Plain{b[:n:n], b[n:len(b):len(b)]} }
