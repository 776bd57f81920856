package kv

import (
	"bytes"
	"fmt"
	"slices"

	"nvkv/alloc"
	"nvkv/internal/crc32c"
	"nvkv/kv/internal/record"
	"nvkv/nvmap"
)

// runs reads the run list of a record and those below it. Where it meets damage it
// returns what it has read before that, too.
func (db *DB) runs(rec *record.Record) (record.RunList, error) {
	l, ok := rec.ReadLists(db.m.Size(), db.bytesAt)
	if !ok {
		return l, &CorruptError{Off: uint64(rec.Off), Structure: "runs of a record", Key: bytes.Clone(rec.Key)}
	}
	return l, nil
}

// pieceBytes bounds what of a run is looked at together where the device is not
// mapped, and what of a value is summed before it is written.
const pieceBytes = 256 << 10

// eachPiece calls fn with the bytes that a record has in runs, in their order, and
// returns their checksum; false where they lie outside the device. The pieces must
// not be kept.
func (db *DB) eachPiece(rec *record.Record, l *record.RunList, fn func([]byte)) (sum uint32, ok bool) {
	left := rec.SpilledBytes()
	var copied []byte
	for _, e := range l.Data() {
		for at := int64(0); at < e.Bytes && left > 0; {
			n := min(left, e.Bytes-at, pieceBytes)
			b := db.piece(e.Off+nvmap.Off(at), int(n), &copied)
			if b == nil {
				return 0, false
			}
			sum = crc32c.Update(sum, b, nil)
			fn(b)
			at, left = at+n, left-n
		}
	}
	return sum, left == 0
}

// readRuns reads what a record has in runs, verifies it, and appends the value
// to dst; the value is never nil. key is the record's key wherever it lies; it may
// alias the medium.
func (db *DB) readRuns(rec *record.Record, dst []byte) (key, value []byte, err error) {
	l, err := db.runs(rec)
	if err != nil {
		return nil, nil, err
	}
	return db.readListed(rec, &l, dst)
}

// readListed is readRuns of a record whose lists have been read.
func (db *DB) readListed(rec *record.Record, l *record.RunList, dst []byte) (key, value []byte, err error) {
	key = rec.Key
	keyLeft := 0
	if rec.Flags&record.FlagSpillKey != 0 {
		key, keyLeft = make([]byte, 0, rec.KeyLen), rec.KeyLen
	}
	value = growBy(dst, int64(rec.ValLen))
	sum, ok := db.eachPiece(rec, l, func(b []byte) {
		n := min(keyLeft, len(b))
		if n > 0 {
			key = append(key, b[:n]...)
			keyLeft -= n
		}
		value = append(value, b[n:]...)
	})
	if !ok || sum != l.Sum {
		return nil, nil, &CorruptError{Off: uint64(rec.Off), Structure: "runs of a record", Key: bytes.Clone(rec.Key)}
	}
	return key, value, nil
}

// growBy returns b, not nil, with room for n bytes more.
func growBy(b []byte, n int64) []byte {
	if b == nil {
		return make([]byte, 0, n)
	}
	if int64(cap(b)-len(b)) >= n {
		return b
	}
	c := make([]byte, len(b), int64(len(b))+n)
	copy(c, b)
	return c
}

// runsWhole says whether the bytes that a record has in runs are all there.
func (db *DB) runsWhole(rec *record.Record) bool {
	l, err := db.runs(rec)
	if err != nil {
		return false
	}
	sum, ok := db.eachPiece(rec, &l, func([]byte) {})
	return ok && sum == l.Sum
}

// keyInRuns returns the key of a record that has it in runs, nil if the bytes there
// are not the record's.
func (db *DB) keyInRuns(rec *record.Record) []byte {
	l, err := db.runs(rec)
	if err != nil {
		return nil
	}
	key := make([]byte, 0, rec.KeyLen)
	sum, ok := db.eachPiece(rec, &l, func(b []byte) {
		key = append(key, b[:min(len(b), rec.KeyLen-len(key))]...)
	})
	if !ok || sum != l.Sum {
		return nil
	}
	return key
}

// extentsInside says whether a record's runs can be read and lie on the device.
func (db *DB) extentsInside(rec *record.Record) bool {
	l, err := db.runs(rec)
	return err == nil && !slices.ContainsFunc(l.Extents, func(e alloc.Extent) bool { return db.r.CheckExtent(e) != nil })
}

// placeRuns allocates runs for the value, for the key where it is too long to stand
// beside the run list, and for lists that are too long as well.
func (db *DB) placeRuns(e *entry, urgent bool) error {
	take := db.r.AllocRuns
	if urgent {
		take = db.r.AllocRunsUrgent
	}
	most := record.ExtentsIn(db.r.LargestSlot() - record.MaxHeaderBytes - len(e.inline()))
	e.levels, e.extents = nil, nil
	for n := e.runBytes(); ; {
		extents, err := take(n, alloc.AnyExtents)
		if err == nil && len(e.levels) > record.MaxListLevels {
			err = fmt.Errorf("nvkv: %d bytes lie in so many pieces that their list has more than %d levels", e.runBytes(), record.MaxListLevels)
		}
		if err != nil {
			db.freeRuns(e)
			return err
		}
		e.levels = append(e.levels, extents)
		e.extents = append(e.extents, extents...)
		if int64(len(extents)) <= most && len(e.levels) > db.opt.listLevels {
			return nil
		}
		n = record.ListBytes(int64(len(extents)))
	}
}

// listElsewhere puts the list that would stand in e's slot into runs, where that
// makes it shorter and there is room: the slots that are free may be small ones.
func (db *DB) listElsewhere(e *entry) bool {
	top := len(e.levels) - 1
	n := len(e.levels[top])
	if top == record.MaxListLevels || n == 1 {
		return false
	}
	extents, err := db.r.AllocRuns(record.ListBytes(int64(n)), n-1)
	if err != nil {
		return false
	}
	e.levels = append(e.levels, extents)
	e.extents = append(e.extents, extents...)
	return true
}

func (db *DB) freeRuns(e *entry) {
	for _, x := range e.extents {
		db.account(db.r.FreeRun(x))
	}
	e.levels, e.extents = nil, nil
}

// listBody is how long the body of a spilled record is: the key unless that lies in
// runs, and the list of the highest level.
func (e *entry) listBody() int {
	return len(e.inline()) + int(record.ListBytes(int64(len(e.levels[len(e.levels)-1]))))
}

// storeRuns writes a spilled body and the lists below the one in the slot, which is
// made here. All of that is part of the transaction: each list carries the checksum
// of what its extents hold, and one fence covers all.
func (db *DB) storeRuns(e *entry) error {
	sum, err := db.storeBody(e)
	if err != nil {
		return err
	}
	top := len(e.levels) - 1
	for level, extents := range e.levels[:top] {
		list := record.AppendRunList(nil, sum, level, extents)
		w := runWriter{db: db, extents: e.levels[level+1]}
		if err := w.pour(list); err != nil {
			return err
		}
		sum = record.BodySum(list)
	}
	e.list = record.AppendRunList(slices.Clone(e.inline()), sum, top, e.levels[top])
	return nil
}

// storeBody writes what of e lies in runs and returns its checksum. A value that
// is the caller's own may change under the hand of one who ought not to change it.
// So it goes through a copy, a piece at a time, and the sum is that of what was
// written: else a recovery would find a transaction that is not whole, which may be
// that of others too.
func (db *DB) storeBody(e *entry) (sum uint32, err error) {
	w := runWriter{db: db, extents: e.levels[0]}
	if e.lent == nil {
		return e.sum, w.pour(e.inRuns())
	}
	piece := make([]byte, 0, pieceBytes)
	if e.bare {
		piece = append(piece, e.key...)
	}
	for rest := e.lent; len(piece) > 0 || len(rest) > 0; {
		n := min(pieceBytes-len(piece), len(rest))
		piece, rest = append(piece, rest[:n]...), rest[n:]
		sum = crc32c.Update(sum, piece, nil)
		if err := w.pour(piece); err != nil {
			return 0, err
		}
		piece = piece[:0]
	}
	return sum, nil
}

// runWriter writes into extents one after the other.
type runWriter struct {
	db      *DB
	extents []alloc.Extent
	at      int64 // in the first of them
}

func (w *runWriter) pour(b []byte) error {
	for len(b) > 0 {
		e := w.extents[0]
		n := min(int64(len(b)), e.Bytes-w.at)
		if err := w.db.m.Write(e.Off+nvmap.Off(w.at), b[:n]); err != nil {
			return err
		}
		b = b[n:]
		if w.at += n; w.at == e.Bytes {
			w.extents, w.at = w.extents[1:], 0
		}
	}
	return nil
}
