package kv

import (
	"bytes"
	"errors"
	"hash/crc32"
	"runtime"

	"nvkv/nvmap"
)

// optimistic is how often a point read tries before it registers as a snapshot
// does, so that a busy neighbour cannot keep it from ending.
const optimistic = 3

// errRegister asks the caller to leave its section and read in a snapshot.
var errRegister = errors.New("nvkv: to be read in a snapshot")

// get appends the value of key to dst, if it is wanted. The caller has entered.
func (db *DB) get(dst, key []byte, want bool) ([]byte, error) {
	if len(key) > MaxKeyBytes {
		return dst, ErrNotFound
	}
	for try := 0; try < optimistic; {
		shown := db.showing.Load()
		if shown&1 != 0 {
			runtime.Gosched()
			continue
		}
		out, res, err := db.tryGet(dst, key, want, shown)
		switch res {
		case hitFound:
			return out, nil
		case hitAbsent:
			return dst, ErrNotFound
		case hitError:
			return dst, err
		case hitSlow:
			return dst, errRegister
		}
		if try++; try > 1 {
			runtime.Gosched()
		}
	}
	return dst, errRegister
}

// appendValue never returns nil: a stored empty value is not absence.
func appendValue(dst, value []byte) []byte {
	if dst == nil {
		dst = make([]byte, 0, len(value))
	}
	return append(dst, value...)
}

// tryGet reads without a lock. Nothing that it found counts until the leaf's
// version has been validated: a leaf that did not change names a slot that was
// not reused.
func (db *DB) tryGet(dst, key []byte, want bool, shown uint64) ([]byte, outcome, error) {
	var h hit
	switch res := db.ix.lookup(key, &h); res {
	case hitAbsent:
		if !db.stands(&h, shown) {
			return dst, hitRetry, nil
		}
		return dst, hitAbsent, nil
	case hitFound:
	default:
		return dst, res, h.err
	}
	if h.rec&refSpill != 0 {
		return dst, hitSlow, nil
	}
	db.ix.askRecord(refOff(h.rec))
	var p plain
	expiry, err := db.readAny(h.rec, &p)
	n := len(dst)
	if err == nil && (bytes.Equal(p.key, key) || db.off(ruleR13)) {
		if expiry != 0 && expiry <= now() {
			if !db.stands(&h, shown) {
				return dst, hitRetry, nil
			}
			return dst, hitAbsent, nil
		}
		if want {
			dst = appendValue(dst, p.value)
		}
		if !db.stands(&h, shown) {
			return dst[:n], hitRetry, nil
		}
		return dst, hitFound, nil
	}
	// Another key's record, or damage: which, the leaf's own key tells.
	same, res := true, hitFound
	if !h.sure {
		same, res = db.ix.holds(&h, key)
	}
	if res != hitFound || !db.stands(&h, shown) {
		return dst, hitRetry, nil
	}
	if !same {
		return dst, hitAbsent, nil
	}
	return dst, hitError, &CorruptError{Off: uint64(refOff(h.rec)), Structure: "record", Key: bytes.Clone(key)}
}

// stands says whether what a lookup found was whole and still is.
func (db *DB) stands(h *hit, shown uint64) bool {
	return db.off(ruleI30Reader) || db.m.ReadValid(h.leaf.page, h.version) && db.showing.Load() == shown
}

// getRegistered reads in a snapshot of its own.
func (db *DB) getRegistered(dst, key []byte, want bool) ([]byte, error) {
	c, err := db.enterCall()
	if err != nil {
		return dst, err
	}
	defer c.leave()
	db.publish.Lock()
	h := db.openHolder(true)
	db.publish.Unlock()
	defer db.closeHolder(h)
	return db.getSection(dst, key, want, h)
}

func (db *DB) getSection(dst, key []byte, want bool, h *holder) (out []byte, err error) {
	s := db.pages.begin()
	defer s.leave()
	defer db.guarded("get", panicOnFault(true), &err)
	if !want {
		_, err := db.recordAt(key, h.root, now())
		return dst, err
	}
	return db.getAt(dst, key, h, now())
}

// getAt appends the value that key has in a snapshot.
func (db *DB) getAt(dst, key []byte, h *holder, at int64) ([]byte, error) {
	rec, err := db.recordAt(key, h.root, at)
	if err != nil {
		return dst, err
	}
	if !rec.spilled() {
		return appendValue(dst, rec.value), nil
	}
	_, value, err := db.readRuns(rec, dst)
	if err != nil {
		return dst, err
	}
	return value, nil
}

// recordAt returns the record that key has below a root that stands still.
func (db *DB) recordAt(key []byte, root nvmap.PageID, at int64) (*record, error) {
	if len(key) > MaxKeyBytes {
		return nil, ErrNotFound
	}
	c := cursor{ix: &db.ix}
	found, err := c.seek(root, key)
	if err != nil {
		return nil, err
	}
	if !found {
		return nil, ErrNotFound
	}
	rec := new(record)
	x := c.ref()
	if err := db.readRecord(refOff(x), rec); err != nil {
		return nil, &CorruptError{Off: uint64(refOff(x)), Structure: "record", Key: bytes.Clone(key)}
	}
	if rec.flags&flagSpillKey == 0 && !bytes.Equal(rec.key, key) {
		return nil, &CorruptError{Off: uint64(refOff(x)), Structure: "record", Key: bytes.Clone(key)}
	}
	if rec.expired(at) {
		return nil, ErrNotFound
	}
	return rec, nil
}

// readRuns reads what a record has in runs, verifies it, and appends the value
// to dst. key is the record's key wherever it lies; it may alias the medium.
func (db *DB) readRuns(rec *record, dst []byte) (key, value []byte, err error) {
	damaged := &CorruptError{Off: uint64(rec.off), Structure: "runs of a record", Key: rec.key}
	sum, list := rec.extents()
	left := rec.spilledBytes()
	held := int64(0)
	for _, e := range list {
		held += e.Bytes
	}
	if held < left { // before anything is allocated for it
		return nil, nil, damaged
	}
	var body []byte
	into := dst
	if rec.flags&flagSpillKey != 0 {
		into = nil
	}
	into = growBy(into, left)
	at := len(into)
	for _, e := range list {
		n := min(left, e.Bytes)
		b := db.bytesAt(e.Off, int(n))
		if b == nil {
			return nil, nil, damaged
		}
		into = append(into, b...)
		left -= n
	}
	body = into[at:]
	if left != 0 || bodySum(body) != sum {
		return nil, nil, damaged
	}
	if rec.flags&flagSpillKey != 0 {
		return body[:rec.keyLen:rec.keyLen], append(dst, body[rec.keyLen:]...), nil
	}
	return rec.key, into, nil
}

func growBy(b []byte, n int64) []byte {
	if int64(cap(b)-len(b)) >= n {
		return b
	}
	c := make([]byte, len(b), int64(len(b))+n)
	copy(c, b)
	return c
}

// runsWhole says whether the bytes that a record has in runs are all there.
func (db *DB) runsWhole(rec *record) bool {
	sum, list := rec.extents()
	left, got := rec.spilledBytes(), uint32(0)
	for _, e := range list {
		n := min(left, e.Bytes)
		b := db.bytesAt(e.Off, int(n))
		if b == nil {
			return false
		}
		got = crc32.Update(got, castagnoli, b)
		left -= n
	}
	return left == 0 && got == sum
}
