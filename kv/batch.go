package kv

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"slices"
	"time"
)

// Batch collects operations that DB.Write makes durable and visible together.
// The last operation on a key wins. A batch may be written more than once and
// is for one goroutine.
type Batch struct {
	ops    []batchOp
	buf    []byte
	ranges int // DeleteRange operations
}

// batchOp names bytes of Batch.buf: room for a header, the key, the value; of
// a range its start and its end.
type batchOp struct {
	kind             byte
	open             bool // a range without end
	at, keyLen, size int
	ttl              time.Duration // 0: none
	expiry           int64         // of putUntil; 0: none
}

const opDeleteRange = kindCount // of a batch only, no record has it

// NewBatch returns an empty batch.
func (db *DB) NewBatch() *Batch { return &Batch{} }

// Put adds the storing of a value. key and value are copied.
func (b *Batch) Put(key, value []byte) { b.add(batchOp{kind: kindPut}, key, value) }

// PutTTL adds the storing of a value that is absent once ttl has passed since
// the Write that stored it; see DB.PutTTL. A ttl of 0 or less is Delete.
func (b *Batch) PutTTL(key, value []byte, ttl time.Duration) {
	if ttl <= 0 {
		b.Delete(key)
		return
	}
	b.add(batchOp{kind: kindPut, ttl: ttl}, key, value)
}

// putUntil is PutTTL with the time of expiry in Unix nanoseconds, 0: never.
func (b *Batch) putUntil(key, value []byte, expiry int64) {
	b.add(batchOp{kind: kindPut, expiry: expiry}, key, value)
}

// Delete adds the removal of a key, which need not be there.
func (b *Batch) Delete(key []byte) { b.add(batchOp{kind: kindDelete}, key, nil) }

// DeleteRange adds the removal of the keys of [start, end), also of those that
// the batch itself put before; what it puts later stays. A nil end is open. A
// batch with ranges is written as a writable transaction is: it waits for its
// turn alone and is not combined with other writers.
func (b *Batch) DeleteRange(start, end []byte) {
	b.add(batchOp{kind: opDeleteRange, open: end == nil}, start, end)
	b.ranges++
}

func (b *Batch) add(o batchOp, key, value []byte) {
	o.at, o.keyLen = len(b.buf), len(key)
	b.buf = appendImage(b.buf, key, value)
	o.size = len(b.buf) - o.at
	b.ops = append(b.ops, o)
}

// Len returns the number of operations.
func (b *Batch) Len() int { return len(b.ops) }

// Size returns the bytes of all keys and values.
func (b *Batch) Size() int { return len(b.buf) - len(b.ops)*maxRecHeader }

// Reset empties the batch and keeps its memory.
func (b *Batch) Reset() { b.ops, b.buf, b.ranges = b.ops[:0], b.buf[:0], 0 }

// Replay calls put, del or delRange for each operation in order; a nil function
// skips its kind. ttl is 0 for a value that does not expire, and a nil end is
// an open one. The slices are valid until the batch is changed.
func (b *Batch) Replay(put func(key, value []byte, ttl time.Duration), del func(key []byte), delRange func(start, end []byte)) {
	for _, o := range b.ops {
		e := b.entry(o)
		switch {
		case o.kind == kindPut && put != nil:
			put(e.key, e.value(), o.ttl)
		case o.kind == kindDelete && del != nil:
			del(e.key)
		case o.kind == opDeleteRange && delRange != nil:
			delRange(e.key, o.end(e.value()))
		}
	}
}

// end returns the end of a range, nil where it is open.
func (o *batchOp) end(bytes []byte) []byte {
	if o.open {
		return nil
	}
	return bytes
}

// replayInto does everything again in a transaction.
func (b *Batch) replayInto(tx *Tx) error {
	for _, o := range b.ops {
		e := b.entry(o)
		var err error
		switch {
		case o.kind == opDeleteRange:
			err = tx.DeleteRange(e.key, o.end(e.value()))
		case o.kind == kindDelete:
			err = tx.Delete(e.key)
		case o.ttl > 0:
			err = tx.PutTTL(e.key, e.value(), o.ttl)
		default:
			err = tx.Put(e.key, e.value())
		}
		if err != nil {
			return err
		}
	}
	return nil
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

// entries sorts the operations by key and keeps the last of each (R1). Times to
// live begin now. The batch has no ranges.
func (b *Batch) entries(dst []entry) ([]entry, error) {
	at := now()
	for _, o := range b.ops {
		e := b.entry(o)
		if o.kind == kindDelete && o.keyLen > MaxKeyBytes {
			continue // such a key cannot be there
		}
		if err := checkSizes(o.keyLen, o.size-maxRecHeader-o.keyLen); err != nil {
			return nil, err
		}
		e.expiry = o.expiry
		if o.ttl > 0 {
			e.expiry = expiryAfter(at, o.ttl)
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
