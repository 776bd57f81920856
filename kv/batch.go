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

// Batch collects operations that DB.Write makes durable and visible together. The last operation on
// a key wins. A batch may be written more than once. It must not be used by several goroutines at a
// time. The zero value is an empty batch. A nil batch is empty too, and nothing can be added to it.
type Batch struct {
	ops    []batchOp
	buf    []byte
	owned  [][]byte         // images of long values; in buf they would be copied whenever it grows
	order  []sortKey        // of last; its memory is kept
	size   int              // bytes of keys and values
	ranges int              // DeleteRange operations
	clock  func() time.Time // see Options.Clock
}

// batchOp is one operation. Its bytes are in Batch.buf at offset at or, if at is negative, in
// Batch.owned at index -1-at. They are space for a header, the key and the value; for a range its
// start and its end.
type batchOp struct {
	kind             byte
	open             bool // a range without an end
	at, keyLen, size int
	ttl              time.Duration // 0: none
	expiry           int64         // set by PutUntil, in Unix nanoseconds; 0: none
	moved            bool          // a moved record: it stays a put even if it has expired
}

const opDeleteRange = record.KindCount // in batches only, no record has this kind

// NewBatch returns an empty batch.
func (db *DB) NewBatch() *Batch { return &Batch{clock: db.opt.Clock} }

// Put adds an operation that stores a value. key and value are copied.
func (b *Batch) Put(key, value []byte) { b.add(batchOp{kind: record.KindPut}, key, value) }

// PutTTL adds an operation that stores a value which expires ttl after the Write; see DB.PutTTL. A
// ttl of 0 or less is a Delete. key and value are copied.
func (b *Batch) PutTTL(key, value []byte, ttl time.Duration) {
	if ttl <= 0 {
		b.Delete(key)
		return
	}
	b.add(batchOp{kind: record.KindPut, ttl: ttl}, key, value)
}

// PutUntil adds an operation that stores a value which expires at a time; see DB.PutUntil. If the
// time has passed when the batch is written, the operation is a Delete. key and value are copied.
func (b *Batch) PutUntil(key, value []byte, expiry time.Time) {
	at, passed := expiryAt(expiry, 0)
	if passed { // before 1970: every clock is past that
		b.Delete(key)
		return
	}
	b.add(batchOp{kind: record.KindPut, expiry: at}, key, value)
}

// move adds an operation that stores an existing record again, expired or not.
func (b *Batch) move(key, value []byte, expiry int64) {
	b.add(batchOp{kind: record.KindPut, expiry: expiry, moved: true}, key, value)
}

// Delete adds an operation that removes a key. The key may be absent.
func (b *Batch) Delete(key []byte) { b.add(batchOp{kind: record.KindDelete}, key, nil) }

// DeleteRange adds an operation that removes the keys of [start, end), including those that the
// batch put before. Keys that the batch puts later stay. A nil end is open. A bound that is longer
// than a key can be is replaced by a shorter one with the same meaning. A batch with ranges is
// written like a writable transaction: it waits for its turn alone and is not combined with other
// writers.
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

// ownedFrom is the length in bytes from which a value gets memory of its own.
const ownedFrom = 128 << 10

// Len returns the number of operations.
func (b *Batch) Len() int {
	if b == nil {
		return 0
	}
	return len(b.ops)
}

// Size returns the total number of bytes of all keys and values.
func (b *Batch) Size() int {
	if b == nil {
		return 0
	}
	return b.size
}

// Reset empties the batch. It keeps the memory for reuse, except that of long values.
func (b *Batch) Reset() {
	if b != nil {
		b.ops, b.buf, b.owned, b.size, b.ranges = b.ops[:0], b.buf[:0], nil, 0, 0
	}
}

// Replay calls put, del or delRange for each operation in order. A nil function skips its
// operations. ttl is 0 for a value without an expiry, and a nil end is open. The slices are valid
// until the batch is changed.
//
// A value added by PutUntil is put with the time that is left by the clock of the DB that made the
// batch, or deleted if none is left. ReplayUntil passes the time itself.
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

// ReplayUntil is Replay that keeps both kinds of expiry apart: ttl, which begins when the batch is
// written, or expiry, a time. The other one is zero.
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

// end returns the end of a range, or nil if it is open.
func (o *batchOp) end(bytes []byte) []byte {
	if o.open {
		return nil
	}
	return bytes
}

// by returns the operation as it is written at the time now: a time to live begins then, and an
// expired put becomes a delete.
func (o batchOp) by(now int64) batchOp {
	switch {
	case o.ttl > 0:
		o.expiry = expiryAfter(now, o.ttl)
	case o.expiry != 0 && o.expiry <= now && !o.moved:
		o.kind, o.size, o.expiry = record.KindDelete, record.MaxHeaderBytes+o.keyLen, 0
	}
	return o
}

// expires says whether by may return something else than o.
func (o *batchOp) expires() bool { return o.ttl > 0 || o.expiry != 0 }

// replayInto repeats the operations in a transaction.
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

// appendImage appends an image: space for the longest header, then the body of a record.
func appendImage(dst, key, value []byte) []byte {
	var room [record.MaxHeaderBytes]byte
	dst = append(dst, room[:]...)
	dst = append(dst, key...)
	return append(dst, value...)
}

// entries returns the operations as entries, sorted by key, with only the last operation on each
// key (R1). Times to live begin at now. The batch has no ranges.
func (b *Batch) entries(dst []entry, now int64) ([]entry, error) {
	for i := range b.ops {
		o := &b.ops[i]
		if o.expires() {
			later := o.by(now)
			o = &later
		}
		if o.kind == record.KindDelete && o.keyLen > MaxKeyBytes {
			continue
		}
		if err := checkSizes(o.keyLen, o.size-record.MaxHeaderBytes-o.keyLen); err != nil {
			return nil, err
		}
	}
	order := b.last()
	dst = slices.Grow(dst, len(order))
	for i, k := range order {
		if i+askAhead < len(order) {
			btree.AskKey(b.key(int(order[i+askAhead].at)))
		}
		o := &b.ops[k.at]
		if o.expires() {
			later := o.by(now)
			o = &later
		}
		if o.keyLen > MaxKeyBytes {
			continue // a delete of a key that cannot exist
		}
		dst = append(dst, b.entry(*o))
	}
	return dst, nil
}

// askAhead is how many entries ahead the key of an entry is prefetched. The keys of a large batch lie
// in the order in which they were added, and a commit reads them in their own order.
const askAhead = 8

// last returns the operations in the order of their keys, and of several with one key the last.
func (b *Batch) last() []sortKey {
	order, sorted := b.order[:0], true
	prefix := sharedPrefix(len(b.ops), b.key)
	for i := range b.ops {
		key := b.key(i)
		order = append(order, sortKey{btree.LeadOf(key[prefix:]), int32(i)})
		sorted = sorted && (i == 0 || order[i-1].lead < order[i].lead ||
			order[i-1].lead == order[i].lead && bytes.Compare(b.key(i-1), key) < 0)
	}
	if b.order = order; sorted {
		return order
	}
	return lastOfEach(order, b.key)
}

// key returns the key of operation i.
func (b *Batch) key(i int) []byte {
	o := &b.ops[i]
	var image []byte
	if o.at < 0 {
		image = b.owned[-1-o.at]
	} else {
		image = b.buf[o.at:]
	}
	return image[record.MaxHeaderBytes : record.MaxHeaderBytes+o.keyLen]
}

// sortKey represents an entry during sorting. The first bytes of the key in which the keys differ
// decide most comparisons, and 16 bytes are cheap to move.
type sortKey struct {
	lead uint64 // eight bytes of the key behind the prefix of all keys, padded with zeros
	at   int32
}

// sharedPrefix returns how many bytes n keys share at their beginning.
func sharedPrefix(n int, key func(i int) []byte) int {
	if n == 0 {
		return 0
	}
	prefix := key(0)
	for i := 1; i < n && len(prefix) > 0; i++ {
		if k := key(i); !bytes.HasPrefix(k, prefix) {
			prefix = prefix[:btree.CommonPrefix(prefix, k)]
		}
	}
	return len(prefix)
}

// lastPerKey sorts entries by key. Of several entries with one key it keeps the last (R1: a
// transaction writes at most one record per key). The result may share memory with es.
func lastPerKey(es []entry) []entry {
	if sortedKeys(es) {
		return es
	}
	order, key := make([]sortKey, len(es)), func(i int) []byte { return es[i].key }
	prefix := sharedPrefix(len(es), key)
	for i := range es {
		order[i] = sortKey{btree.LeadOf(es[i].key[prefix:]), int32(i)}
	}
	out := make([]entry, 0, len(es))
	for _, k := range lastOfEach(order, key) {
		out = append(out, es[k.at])
	}
	return out
}

// lastOfEach sorts by key. Of several with one key it keeps the one that was added last.
func lastOfEach(order []sortKey, key func(i int) []byte) []sortKey {
	slices.SortFunc(order, func(a, b sortKey) int {
		if a.lead != b.lead {
			return cmp.Compare(a.lead, b.lead)
		}
		return cmp.Or(bytes.Compare(key(int(a.at)), key(int(b.at))), cmp.Compare(a.at, b.at))
	})
	out := order[:0]
	for i, k := range order {
		if i+1 < len(order) && k.lead == order[i+1].lead && bytes.Equal(key(int(k.at)), key(int(order[i+1].at))) {
			continue
		}
		out = append(out, k)
	}
	return out
}

// sortedKeys says whether keys are in strictly ascending order.
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

// tooLarge adds the size and its limit to an error.
func tooLarge(err error, size, limit int) error {
	return fmt.Errorf("%w: %d bytes, at most %d", err, size, limit)
}
