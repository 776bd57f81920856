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

// runs reads the run list of a record and the lists below it. If it finds damage it returns an
// error and what it has read before.
func (db *DB) runs(rec *record.Record) (record.RunList, error) {
	l, ok := rec.ReadLists(db.m.Size(), db.bytesAt)
	if !ok {
		return l, &CorruptError{Off: uint64(rec.Off), Structure: "runs of a record", Key: bytes.Clone(rec.Key)}
	}
	return l, nil
}

// pieceBytes bounds how many bytes of a run are read together if the device is not mapped, and how
// many bytes of a value are summed before they are written.
const pieceBytes = 256 << 10

// eachPiece calls fn with the bytes that a record has in runs, in their order, and returns their
// checksum. It returns false if they lie outside the device. fn must not keep the pieces.
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

// readRuns reads and verifies the bytes that a record has in runs, and appends the value to dst.
// The value is never nil. key is the record's key wherever it lies; it may alias the medium.
func (db *DB) readRuns(rec *record.Record, dst []byte) (key, value []byte, err error) {
	l, err := db.runs(rec)
	if err != nil {
		return nil, nil, err
	}
	return db.readListed(rec, &l, dst)
}

// readListed is readRuns for a record whose lists have been read.
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

// growBy returns b, or an empty slice if b is nil, with capacity for n more bytes.
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

// runsWhole says whether the checksum of the bytes that a record has in runs is right.
func (db *DB) runsWhole(rec *record.Record) bool {
	l, err := db.runs(rec)
	if err != nil {
		return false
	}
	sum, ok := db.eachPiece(rec, &l, func([]byte) {})
	return ok && sum == l.Sum
}

// keyInRuns returns the key of a record that has it in runs, or nil if the checksum of the bytes
// there is wrong.
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

// extentsInside says whether a record's run list can be read and names extents inside the device.
func (db *DB) extentsInside(rec *record.Record) bool {
	l, err := db.runs(rec)
	return err == nil && !slices.ContainsFunc(l.Extents, func(e alloc.Extent) bool { return db.r.CheckExtent(e) != nil })
}

// placeRuns allocates runs for the value, for a key that is too long to lie beside the run list,
// and for lists that are too long.
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
			err = fmt.Errorf("nvkv: the pieces of %d bytes need a list of more than %d levels", e.runBytes(), record.MaxListLevels)
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

// listElsewhere puts the list that would lie in e's slot into runs, if that makes it shorter and
// there is room. Then a smaller slot suffices.
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

// listBody returns the length of a spilled record's body: the key, unless it lies in runs, and the
// list of the highest level.
func (e *entry) listBody() int {
	return len(e.inline()) + int(record.ListBytes(int64(len(e.levels[len(e.levels)-1]))))
}

// storeRuns writes a spilled body and the lists below the one in the slot, and makes that one. All
// are part of the transaction: each list has the checksum of its content, and one fence covers all.
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

// storeBody writes the bytes of e that lie in runs, and returns their checksum. If the value is in
// the caller's memory, the caller may change it meanwhile, though it must not. So storeBody writes
// from a copy, piece by piece, and sums the bytes that it writes. Otherwise a recovery would find
// an incomplete transaction, which may have records of other callers too.
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

// runWriter writes into extents, one after the other.
type runWriter struct {
	db      *DB
	extents []alloc.Extent
	at      int64 // offset in the first of them
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
