package kv

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"time"

	"nvkv/kv/internal/btree"
	"nvkv/kv/internal/record"
)

// Batch collects operations that DB.Write makes durable and visible together.
// The last operation on a key wins. A batch may be written more than once and
// is for one goroutine. The zero value is an empty batch, and so is a nil one, to which
// nothing can be added.
type Batch struct {
	ops    []batchOp
	buf    []byte
	owned  [][]byte         // images of long values: to move them with buf, as it grows, would take room for two more
	size   int              // bytes of keys and values
	ranges int              // DeleteRange operations
	clock  func() time.Time // see Options.Clock
}

// batchOp names bytes of Batch.buf or, below 0, one of Batch.owned, the first of which
// is -1: room for a header, the key, the value; of a range its start and its end.
type batchOp struct {
	kind             byte
	open             bool // a range without end
	at, keyLen, size int
	ttl              time.Duration // 0: none
	expiry           int64         // of PutUntil, in Unix nanoseconds; 0: none
	moved            bool          // stays a put though it may have expired
}

const opDeleteRange = record.KindCount // of a batch only, no record has it

// NewBatch returns an empty batch.
func (db *DB) NewBatch() *Batch { return &Batch{clock: db.opt.Clock} }

// Put adds the storing of a value. key and value are copied.
func (b *Batch) Put(key, value []byte) { b.add(batchOp{kind: record.KindPut}, key, value) }

// PutTTL adds the storing of a value that is absent once ttl has passed since
// the Write that stored it; see DB.PutTTL. A ttl of 0 or less is Delete.
func (b *Batch) PutTTL(key, value []byte, ttl time.Duration) {
	if ttl <= 0 {
		b.Delete(key)
		return
	}
	b.add(batchOp{kind: record.KindPut, ttl: ttl}, key, value)
}

// PutUntil adds the storing of a value that is absent from a moment on; see
// DB.PutUntil. A time that has passed when the batch is written is Delete.
func (b *Batch) PutUntil(key, value []byte, expiry time.Time) {
	at, passed := expiryAt(expiry, 0)
	if passed { // before 1970: no clock shows less
		b.Delete(key)
		return
	}
	b.add(batchOp{kind: record.KindPut, expiry: at}, key, value)
}

// move adds the storing of a record again as it is, expired or not.
func (b *Batch) move(key, value []byte, expiry int64) {
	b.add(batchOp{kind: record.KindPut, expiry: expiry, moved: true}, key, value)
}

// Delete adds the removal of a key, which need not be there.
func (b *Batch) Delete(key []byte) { b.add(batchOp{kind: record.KindDelete}, key, nil) }

// DeleteRange adds the removal of the keys of [start, end), also of those that
// the batch itself put before; what it puts later stays. A nil end is open, and a
// bound that is longer than a key can be is kept as a shorter one that means the
// same. A batch with ranges is written as a writable transaction is: it waits for its
// turn alone and is not combined with other writers.
func (b *Batch) DeleteRange(start, end []byte) {
	r := rangeOf(start, end)
	b.add(batchOp{kind: opDeleteRange, open: r.end == nil}, r.start, r.end)
	b.ranges++
}

func (b *Batch) add(o batchOp, key, value []byte) {
	o.at, o.keyLen, o.size = len(b.buf), len(key), record.MaxHeaderBytes+len(key)+len(value)
	if len(value) >= ownedFrom {
		b.owned = append(b.owned, appendImage(make([]byte, 0, o.size), key, value))
		o.at = -len(b.owned)
	} else {
		b.buf = appendImage(b.buf, key, value)
	}
	b.size += len(key) + len(value)
	b.ops = append(b.ops, o)
}

// ownedFrom is how long a value is that a batch keeps by itself.
const ownedFrom = 128 << 10

// Len returns the number of operations.
func (b *Batch) Len() int {
	if b == nil {
		return 0
	}
	return len(b.ops)
}

// Size returns the bytes of all keys and values.
func (b *Batch) Size() int {
	if b == nil {
		return 0
	}
	return b.size
}

// Reset empties the batch and keeps its memory, but for that of long values.
func (b *Batch) Reset() {
	if b != nil {
		b.ops, b.buf, b.owned, b.size, b.ranges = b.ops[:0], b.buf[:0], nil, 0, 0
	}
}

// Replay calls put, del or delRange for each operation in order; a nil function
// skips its kind. ttl is 0 for a value that does not expire, and a nil end is
// an open one. The slices are valid until the batch is changed.
//
// What PutUntil added is put with the time that is left by the clock of the DB that
// made the batch, and deleted where none is. ReplayUntil tells the moment itself.
func (b *Batch) Replay(put func(key, value []byte, ttl time.Duration), del func(key []byte), delRange func(start, end []byte)) {
	if b == nil {
		return
	}
	now := (&Options{Clock: b.clock}).now()
	b.ReplayUntil(func(key, value []byte, ttl time.Duration, expiry time.Time) {
		if !expiry.IsZero() {
			ttl = time.Duration(clockNanos(expiry) - now)
		}
		switch {
		case ttl <= 0 && !expiry.IsZero():
			if del != nil {
				del(key)
			}
		case put != nil:
			put(key, value, ttl)
		}
	}, del, delRange)
}

// ReplayUntil is Replay that tells of a value that expires whether a ttl was given,
// which begins when the batch is written, or the moment of expiry; the other is
// zero.
func (b *Batch) ReplayUntil(put func(key, value []byte, ttl time.Duration, expiry time.Time), del func(key []byte), delRange func(start, end []byte)) {
	if b == nil {
		return
	}
	for _, o := range b.ops {
		e := b.entry(o)
		switch {
		case o.kind == record.KindPut && put != nil:
			put(e.key, e.value(), o.ttl, expiryTime(o.expiry))
		case o.kind == record.KindDelete && del != nil:
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

// by returns o as it is when it is written: its time to live has begun, and what
// has expired is a delete.
func (o batchOp) by(now int64) batchOp {
	switch {
	case o.ttl > 0:
		o.expiry = expiryAfter(now, o.ttl)
	case o.expiry != 0 && o.expiry <= now && !o.moved:
		o.kind, o.size, o.expiry = record.KindDelete, record.MaxHeaderBytes+o.keyLen, 0
	}
	return o
}

// replayInto does everything again in a transaction.
func (b *Batch) replayInto(tx *Tx) error {
	now := tx.db.now()
	for _, o := range b.ops {
		o = o.by(now)
		e := b.entry(o)
		var err error
		switch {
		case o.kind == opDeleteRange:
			err = tx.DeleteRange(e.key, o.end(e.value()))
		case o.kind == record.KindDelete:
			err = tx.Delete(e.key)
		default:
			err = tx.put(&e, o.at < 0)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (b *Batch) entry(o batchOp) entry {
	var image []byte
	if o.at < 0 {
		image = b.owned[-1-o.at][:o.size]
	} else {
		image = b.buf[o.at : o.at+o.size]
	}
	return entry{kind: o.kind, image: image, key: image[record.MaxHeaderBytes : record.MaxHeaderBytes+o.keyLen], expiry: o.expiry}
}

// appendImage appends room for the longest header, then the body of a record.
func appendImage(dst, key, value []byte) []byte {
	var room [record.MaxHeaderBytes]byte
	dst = append(dst, room[:]...)
	dst = append(dst, key...)
	return append(dst, value...)
}

// entries sorts the operations by key and keeps the last of each (R1). Times to
// live begin now. The batch has no ranges.
func (b *Batch) entries(dst []entry, now int64) ([]entry, error) {
	for _, o := range b.ops {
		o = o.by(now)
		if o.kind == record.KindDelete && o.keyLen > MaxKeyBytes {
			continue // such a key cannot be there
		}
		if err := checkSizes(o.keyLen, o.size-record.MaxHeaderBytes-o.keyLen); err != nil {
			return nil, err
		}
		dst = append(dst, b.entry(o))
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
		order[i] = sortKey{btree.LeadOf(es[i].key), int32(i)}
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

func checkSizes(keyLen, valLen int) error {
	switch {
	case keyLen > MaxKeyBytes:
		return tooLarge(ErrKeyTooLarge, keyLen, MaxKeyBytes)
	case valLen > MaxValueBytes:
		return tooLarge(ErrValueTooLarge, valLen, MaxValueBytes)
	}
	return nil
}

// tooLarge says by what a size passes its limit.
func tooLarge(err error, size, limit int) error {
	return fmt.Errorf("%w: %d bytes, at most %d", err, size, limit)
}
