package kv

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"slices"
)

// Batch collects operations that DB.Write makes durable and visible together.
// The last operation on a key wins. A batch may be written more than once and
// is for one goroutine.
type Batch struct {
	ops []batchOp
	buf []byte
}

// batchOp names bytes of Batch.buf: room for a header, the key, the value.
type batchOp struct {
	kind             byte
	at, keyLen, size int
}

// NewBatch returns an empty batch.
func (db *DB) NewBatch() *Batch { return &Batch{} }

// Put adds the storing of a value. key and value are copied.
func (b *Batch) Put(key, value []byte) { b.add(kindPut, key, value) }

// Delete adds the removal of a key, which need not be there.
func (b *Batch) Delete(key []byte) { b.add(kindDelete, key, nil) }

func (b *Batch) add(kind byte, key, value []byte) {
	at := len(b.buf)
	b.buf = appendImage(b.buf, key, value)
	b.ops = append(b.ops, batchOp{kind, at, len(key), len(b.buf) - at})
}

// Len returns the number of operations.
func (b *Batch) Len() int { return len(b.ops) }

// Size returns the bytes of all keys and values.
func (b *Batch) Size() int { return len(b.buf) - len(b.ops)*maxRecHeader }

// Reset empties the batch and keeps its memory.
func (b *Batch) Reset() { b.ops, b.buf = b.ops[:0], b.buf[:0] }

// Replay calls put or del for each operation in order; a nil function skips
// them. The slices are valid until the batch is changed.
func (b *Batch) Replay(put func(key, value []byte), del func(key []byte)) {
	for _, o := range b.ops {
		e := b.entry(o)
		switch {
		case o.kind == kindPut && put != nil:
			put(e.key, e.image[maxRecHeader+len(e.key):])
		case o.kind == kindDelete && del != nil:
			del(e.key)
		}
	}
}

func (b *Batch) entry(o batchOp) entry {
	image := b.buf[o.at : o.at+o.size]
	return entry{kind: o.kind, image: image, key: image[maxRecHeader : maxRecHeader+o.keyLen]}
}

// appendImage appends room for the longest header, then the body of a record.
func appendImage(dst, key, value []byte) []byte {
	var room [maxRecHeader]byte
	dst = append(dst, room[:]...)
	dst = append(dst, key...)
	return append(dst, value...)
}

// entries sorts the operations by key and keeps the last of each (R1).
func (b *Batch) entries(dst []entry) ([]entry, error) {
	for _, o := range b.ops {
		e := b.entry(o)
		if err := checkSizes(o.keyLen, o.size-maxRecHeader-o.keyLen); err != nil {
			return nil, err
		}
		dst = append(dst, e)
	}
	return lastPerKey(dst), nil
}

// sortKey stands for an entry while entries are sorted: most comparisons end
// with the first bytes of the key, and moving 16 bytes is cheap.
type sortKey struct {
	lead uint64 // first eight bytes of the key, zeros behind
	at   int32
}

// lastPerKey sorts entries by key, and of several with one key keeps the one
// that came last (R1: a transaction writes at most one record per key). The
// result may be es or not.
func lastPerKey(es []entry) []entry {
	if sortedKeys(es) {
		return es
	}
	order := make([]sortKey, len(es))
	for i := range es {
		order[i] = sortKey{leadOf(es[i].key), int32(i)}
	}
	slices.SortFunc(order, func(a, b sortKey) int {
		if a.lead != b.lead {
			return cmp.Compare(a.lead, b.lead)
		}
		return cmp.Or(bytes.Compare(es[a.at].key, es[b.at].key), cmp.Compare(a.at, b.at))
	})
	out := make([]entry, 0, len(es))
	for i, o := range order {
		if i+1 < len(order) && o.lead == order[i+1].lead && bytes.Equal(es[o.at].key, es[order[i+1].at].key) {
			continue
		}
		out = append(out, es[o.at])
	}
	return out
}

// sortedKeys says whether keys ascend already, without two that are equal.
func sortedKeys(es []entry) bool {
	for i := 1; i < len(es); i++ {
		if bytes.Compare(es[i-1].key, es[i].key) >= 0 {
			return false
		}
	}
	return true
}

func leadOf(key []byte) uint64 {
	if len(key) >= 8 {
		return binary.BigEndian.Uint64(key)
	}
	var b [8]byte
	copy(b[:], key)
	return binary.BigEndian.Uint64(b[:])
}

func checkSizes(keyLen, valLen int) error {
	switch {
	case keyLen > MaxKeyBytes:
		return ErrKeyTooLarge
	case valLen > MaxValueBytes:
		return ErrValueTooLarge
	}
	return nil
}
