package kv

import (
	"bytes"

	"nvkv/kv/internal/record"
)

// A conditional write is an op with a condition. The goroutine that commits the op reads the key
// under the turn, so no other write comes between the comparison and the commit. In a group each
// condition is judged against the operations that come before its op, as if each were a commit of
// its own. An op whose condition does not hold writes nothing, and so does one whose key cannot be
// read; the rest of its group is committed.

// condition is what a key must be for an op of one entry to be committed.
type condition struct {
	kind byte
	old  []byte // the caller's
	met  bool   // the result of the last attempt
	err  error  // of the last attempt: the key could not be read
}

const (
	condNone   = iota
	condAbsent // the key is absent or has expired
	condEquals // the key exists and has the value old
)

// PutIfAbsent stores a value if key is absent, and says whether it did. A key that has expired is
// absent. The value has no expiry. The comparison and the write are one commit; stored is true only
// if that is durable (see Options.Durability). If key exists nothing is written. After an error
// other than ErrFailed nothing was stored. If the record of key is damaged the error is ErrCorrupt
// or ErrMediaFault, and nothing is written. PutIfAbsent keeps neither slice.
func (db *DB) PutIfAbsent(key, value []byte) (stored bool, err error) {
	if err := checkSizes(len(key), len(value)); err != nil {
		return false, err
	}
	return db.writeIf(record.KindPut, key, value, condition{kind: condAbsent})
}

// CompareAndSwap replaces the value of key by value if it equals old, and says whether it did. It
// is false if key is absent, has expired, or has another value; then nothing is written. A nil old
// is the empty value. A swap clears an expiry, as Put does. The comparison and the write are one
// commit, and no other write comes between them; the errors are those of PutIfAbsent. A stored
// value that lies in runs is compared piece by piece, without a copy of the whole.
func (db *DB) CompareAndSwap(key, old, value []byte) (swapped bool, err error) {
	if err := checkSizes(len(key), len(value)); err != nil {
		return false, err
	}
	return db.writeIf(record.KindPut, key, value, condition{kind: condEquals, old: old})
}

// CompareAndDelete removes key if its value equals old, and says whether it did. It is false if key
// is absent, has expired, or has another value; then nothing is written. A nil old is the empty
// value. See CompareAndSwap.
func (db *DB) CompareAndDelete(key, old []byte) (deleted bool, err error) {
	if len(key) > MaxKeyBytes {
		return false, db.writable() // no key is that long
	}
	return db.writeIf(record.KindDelete, key, nil, condition{kind: condEquals, old: old})
}

func (db *DB) writeIf(kind byte, key, value []byte, c condition) (met bool, err error) {
	o := getOp()
	defer putOp(o)
	o.single(kind, key, value, 0)
	o.cond = c
	if err := db.write(o); err != nil {
		return false, err
	}
	return o.cond.met, nil
}

// commitOp commits o alone, if its condition holds.
func (db *DB) commitOp(o *op) error {
	if !db.judge(o, nil) {
		return o.cond.err
	}
	return db.commit(o.entries)
}

// admit appends the entries of o to those of the ops before it in a group, if its condition holds.
func (db *DB) admit(before []entry, o *op) []entry {
	if !db.judge(o, before) {
		return before
	}
	return append(before, o.entries...)
}

// result returns the error for the caller of o, whose commit ended with err.
func (o *op) result(err error) error {
	if o.cond.err != nil {
		return o.cond.err
	}
	return err
}

// judge says whether o is to be committed after the entries before. The caller holds the turn, and
// excludes readers in race builds.
func (db *DB) judge(o *op, before []entry) bool {
	c := &o.cond
	if c.kind == condNone {
		return true
	}
	c.met, c.err = db.meets(c, o.entries[0].key, before)
	return c.met && c.err == nil
}

func (db *DB) meets(c *condition, key []byte, before []entry) (met bool, err error) {
	if err := db.writable(); err != nil {
		return false, err
	}
	now := db.now()
	for i := len(before) - 1; i >= 0; i-- {
		if e := &before[i]; bytes.Equal(e.key, key) {
			if e.kind != record.KindPut || e.expiry != 0 && e.expiry <= now {
				return c.kind == condAbsent, nil
			}
			return c.kind == condEquals && bytes.Equal(e.value(), c.old), nil
		}
	}
	defer db.guarded("compare", panicOnFault(true), &err)
	db.inside = db.pages.BeginInside()
	defer db.endInside()
	if err := db.ix.Find(key, &db.way); err != nil {
		return false, err
	}
	if !db.way.Found() {
		return c.kind == condAbsent, nil
	}
	rec, err := db.recordOf(db.ix.Old(&db.way), key, now)
	switch {
	case err == ErrNotFound:
		return c.kind == condAbsent, nil
	case err != nil || c.kind == condAbsent:
		return false, err
	}
	return db.hasValue(rec, c.old)
}

// hasValue says whether the value of a record equals want.
func (db *DB) hasValue(rec *record.Record, want []byte) (same bool, err error) {
	if rec.ValLen != len(want) {
		return false, nil
	}
	if !rec.Spilled() {
		return bytes.Equal(rec.Value, want), nil
	}
	l, err := db.runs(rec)
	if err != nil {
		return false, err
	}
	keyLeft := 0
	if rec.Flags&record.FlagSpillKey != 0 {
		keyLeft = rec.KeyLen
	}
	same = true
	sum, ok := db.eachPiece(rec, &l, func(b []byte) {
		n := min(keyLeft, len(b))
		keyLeft -= n
		b = b[n:]
		same = same && bytes.Equal(b, want[:len(b)])
		want = want[len(b):]
	})
	if !ok || sum != l.Sum {
		return false, &CorruptError{Off: uint64(rec.Off), Structure: "runs of a record", Key: bytes.Clone(rec.Key)}
	}
	return same, nil
}
