package kv

import (
	"bytes"
	"errors"
	"runtime"

	"nvkv/kv/internal/btree"
	"nvkv/kv/internal/record"
	"nvkv/nvmap"
)

// optimistic is how often a point read tries before it opens a snapshot. So other goroutines cannot
// keep it from ending.
const optimistic = 3

// errRegister asks the caller to leave its section and read in a snapshot.
var errRegister = errors.New("nvkv: to be read in a snapshot")

// get appends the value of key to dst, if want. The caller has called enter.
func (db *DB) get(dst, key []byte, want bool) ([]byte, error) {
	if len(key) > MaxKeyBytes {
		return dst, ErrNotFound
	}
	h, hashed := db.hashOf(key)
	for try := 0; try < optimistic; {
		shown := db.showing.Load()
		if shown&1 != 0 {
			if err := db.unreadable(); err != nil {
				return dst, err
			}
			runtime.Gosched()
			continue
		}
		if hashed {
			switch out, res := db.getHashed(dst, key, h, want, shown); res {
			case btree.Found:
				return out, nil
			case btree.Absent:
				return dst, ErrNotFound
			case btree.Slow:
				return dst, errRegister
			}
		}
		out, res, err := db.tryGet(dst, key, h, want, shown)
		switch res {
		case btree.Found:
			return out, nil
		case btree.Absent:
			return dst, ErrNotFound
		case btree.Failed:
			return dst, err
		case btree.Slow:
			return dst, errRegister
		}
		if try++; try > 1 {
			runtime.Gosched()
		}
	}
	return dst, errRegister
}

// appendValue never returns nil, because an empty value differs from absence.
func appendValue(dst, value []byte) []byte {
	if dst == nil {
		dst = make([]byte, 0, len(value))
	}
	return append(dst, value...)
}

// tryGet reads without a lock. Its result counts only after the validation of the leaf's version: a
// leaf that did not change names a slot that was not reused.
func (db *DB) tryGet(dst, key []byte, hash uint64, want bool, shown uint64) ([]byte, btree.Outcome, error) {
	var h btree.Hit
	switch res := db.ix.Lookup(key, &h); res {
	case btree.Absent:
		if !db.stands(&h, shown) {
			return dst, btree.Retry, nil
		}
		db.hashMissed(hash)
		return dst, btree.Absent, nil
	case btree.Found:
	default:
		return dst, res, h.Err
	}
	if h.Rec&btree.RefSpill != 0 {
		return dst, btree.Slow, nil
	}
	db.ix.AskRecord(btree.RefOff(h.Rec))
	var p record.Plain
	expiry, err := db.readAny(h.Rec, &p)
	n := len(dst)
	if err == nil && (bytes.Equal(p.Key, key) || db.off(ruleR13)) {
		if expiry != 0 && expiry <= db.now() {
			if !db.stands(&h, shown) {
				return dst, btree.Retry, nil
			}
			return dst, btree.Absent, nil
		}
		if want {
			dst = appendValue(dst, p.Value)
		}
		if !db.stands(&h, shown) {
			return dst[:n], btree.Retry, nil
		}
		db.hashFound(hash, &h, shown)
		return dst, btree.Found, nil
	}
	// The record has another key or is damaged. The key in the leaf tells which.
	same, res := true, btree.Found
	if !h.Sure {
		same, res = db.ix.Holds(&h, key)
	}
	if res != btree.Found || !db.stands(&h, shown) {
		return dst, btree.Retry, nil
	}
	if !same {
		return dst, btree.Absent, nil
	}
	return dst, btree.Failed, &CorruptError{Off: uint64(btree.RefOff(h.Rec)), Structure: "record", Key: bytes.Clone(key)}
}

// stands says whether the leaf of a lookup was whole and has not changed, and no batch was being
// published.
func (db *DB) stands(h *btree.Hit, shown uint64) bool {
	return db.off(ruleI9Reader) || db.ix.Stands(h) && db.showing.Load() == shown
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
	s := db.pages.Begin()
	defer s.Leave()
	defer db.guarded("get", panicOnFault(true), &err)
	if !want {
		_, err := db.recordAt(key, h.root, db.now())
		return dst, err
	}
	return db.getAt(dst, key, h, db.now())
}

// getAt appends the value of key in a snapshot. at is the time by which records expire, in Unix
// nanoseconds.
func (db *DB) getAt(dst, key []byte, h *holder, at int64) ([]byte, error) {
	rec, err := db.recordAt(key, h.root, at)
	if err != nil {
		return dst, err
	}
	if !rec.Spilled() {
		return appendValue(dst, rec.Value), nil
	}
	_, value, err := db.readRuns(rec, dst)
	if err != nil {
		return dst, err
	}
	return value, nil
}

// recordAt returns the record of key below a root that does not change, or ErrNotFound. at is the
// time by which records expire, in Unix nanoseconds. It is inlined, so that the record may lie on
// the caller's stack.
func (db *DB) recordAt(key []byte, root nvmap.PageID, at int64) (*record.Record, error) {
	rec := new(record.Record)
	return rec, db.readAt(key, root, at, rec)
}

// readAt is recordAt into rec.
func (db *DB) readAt(key []byte, root nvmap.PageID, at int64, rec *record.Record) error {
	if len(key) > MaxKeyBytes {
		return ErrNotFound
	}
	c := btree.NewCursor(&db.ix, false)
	found, err := c.Seek(root, key)
	if err != nil {
		return err
	}
	if !found {
		return ErrNotFound
	}
	return db.readEntry(c.Ref(), key, at, rec)
}

// recordOf returns the record that the index has for key, if it has not expired.
func (db *DB) recordOf(x btree.Ref, key []byte, at int64) (*record.Record, error) {
	rec := new(record.Record)
	return rec, db.readEntry(x, key, at, rec)
}

// readEntry is recordOf into rec.
func (db *DB) readEntry(x btree.Ref, key []byte, at int64, rec *record.Record) error {
	if db.readNamed(x, rec) != nil || rec.Flags&record.FlagSpillKey == 0 && !bytes.Equal(rec.Key, key) {
		return &CorruptError{Off: uint64(btree.RefOff(x)), Structure: "record", Key: bytes.Clone(key)}
	}
	if rec.Expired(at) {
		return ErrNotFound
	}
	return nil
}
