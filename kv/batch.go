package kv

import (
	"bytes"
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

// lastPerKey sorts entries by key, and of several with one key keeps the one
// that came last (R1: a transaction writes at most one record per key).
func lastPerKey(es []entry) []entry {
	for i := range es {
		es[i].order = i
	}
	slices.SortFunc(es, func(a, b entry) int {
		if c := bytes.Compare(a.key, b.key); c != 0 {
			return c
		}
		return a.order - b.order
	})
	out := es[:0]
	for i := range es {
		if i+1 < len(es) && bytes.Equal(es[i].key, es[i+1].key) {
			continue
		}
		out = append(out, es[i])
	}
	return out
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
