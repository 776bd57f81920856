package kv

import (
	"errors"

	"nvkv/kv/internal/btree"
	"nvkv/kv/internal/record"
	"nvkv/nvmap"
)

// mover collects records and writes them again elsewhere. Each is a transaction of its own and
// keeps its size. If together, all are one transaction; then each becomes 8 bytes longer and may
// need a larger slot.
type mover struct {
	db       *DB
	b        Batch
	together bool
}

// fenceIsDear says whether a fence of the device is a system call.
func (db *DB) fenceIsDear() bool {
	switch db.m.Device().Info().Kind {
	case "file", "block":
		return true
	}
	return false
}

func (m *mover) bytes() int64 { return int64(m.b.Size()) }

// add collects a record, if the index points at it and no snapshot sees it.
func (m *mover) add(o nvmap.Off) (err error) {
	db := m.db
	var rec record.Record
	if db.readRecord(o, &rec) != nil || db.seen(rec.Number) || !db.movable(&rec) {
		return nil // Check reports damaged ones
	}
	key, value, err := db.content(&rec)
	if err != nil {
		return nil
	}
	if err := db.ix.Find(key, &db.way); err != nil {
		return err
	}
	if !db.way.Found() || btree.RefOff(db.ix.Old(&db.way)) != o {
		return nil
	}
	if db.off(ruleI8) {
		return db.moveVerbatim(&rec)
	}
	m.b.move(key, value, rec.Expiry)
	return nil
}

// seen says whether a snapshot sees the records of transaction n. The snapshot of a writable Tx
// does not count, because it ends soon, and moved records are freed then.
func (db *DB) seen(n record.Number) bool {
	db.publish.Lock()
	defer db.publish.Unlock()
	h := newestSnapshot(db.holders.newest)
	for h != nil && h.brief {
		h = newestSnapshot(h.older)
	}
	return h != nil && h.number >= n
}

// finish commits the collected records and returns their bytes.
func (m *mover) finish() (int64, error) {
	if m.b.Len() == 0 {
		return 0, nil
	}
	es, err := m.b.entries(nil, m.db.now())
	if err != nil {
		return 0, err
	}
	for i := range es {
		es[i].moved = true
	}
	each := 1
	if m.together {
		each = len(es)
	}
	for i := 0; i < len(es) && err == nil; i += each {
		err = m.db.commitAlone(es[i : i+each])
	}
	if errors.Is(err, ErrFull) {
		m.db.ix.KeepReserved(btree.Stock{}) // other calls need the room more
	}
	return m.bytes(), err
}
