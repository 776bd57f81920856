package record

import (
	"encoding/binary"

	"nvkv/nvmap"
)

// Plain is what readers want of a record whose key and value lie in its slot.
type Plain struct{ Key, Value []byte }

// Parse decodes and verifies the record at the beginning of b if it is what most
// are: a put with key and value in the slot that never expires. false says
// that it is none, or damaged: Record.Parse and Record.Sealed tell.
func (p *Plain) Parse(b []byte, seed uint64, carve uint32, off nvmap.Off) bool {
	key, value, end := PlainShape(b)
	if key == 0 || !sealedAt(b, key, end, seed, carve, off) {
		return false
	}
	p.Key, p.Value = b[key:value:value], b[value:end:end]
	return true
}

// PlainShape returns where key and value of a plain record begin, and where it
// ends; zeros if b, in which it lies, does not begin with one.
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
	if n > uint64(len(b)) { // an int may be too small for it
		return 0, 0, 0
	}
	if end = value + int(n); end > len(b) {
		return 0, 0, 0
	}
	return key, value, end
}

// SplitBody returns key and value of a body whose key has n bytes.
func SplitBody(b []byte, n int) Plain { return Plain{b[:n:n], b[n:len(b):len(b)]} }
