package convert

import (
	"time"

	"nvkv/compat"
)

// A batch gathers copies of entries.
type batch struct {
	maxEntries, maxBytes int
	ops                  []compat.Op
	buf                  []byte // keys and values of ops
}

// full reports whether the entry belongs in the next batch. A single entry may be larger than the
// bound.
func (b *batch) full(key, value []byte) bool {
	return len(b.ops) == b.maxEntries || len(b.ops) > 0 && len(b.buf)+len(key)+len(value) > b.maxBytes
}

func (b *batch) add(key, value []byte, expiry time.Time) {
	b.ops = append(b.ops, compat.Op{Key: b.keep(key), Value: b.keep(value), Expiry: expiry})
}

// keep copies p to the buffer. When the buffer grows, earlier operations continue to use the old
// one.
func (b *batch) keep(p []byte) []byte {
	start := len(b.buf)
	b.buf = append(b.buf, p...)
	return b.buf[start:len(b.buf):len(b.buf)]
}

func (b *batch) reset() { b.ops, b.buf = b.ops[:0], b.buf[:0] }
