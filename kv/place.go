package kv

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"nvkv/alloc"
	"nvkv/kv/internal/record"
)

// place allocates the slot and the runs of every entry. If it fails it has taken nothing. The kept
// room may not have a slab for each class. Then the largest records are placed first, and smaller
// ones may take larger slots.
func (db *DB) place(es []entry, urgent bool) error {
	err := db.placeInOrder(es, nil, urgent)
	if urgent && len(es) > 1 && full(err) {
		order := make([]int, len(es))
		for i := range order {
			order[i] = i
		}
		slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(es[b].bodyBytes(), es[a].bodyBytes()) })
		err = db.placeInOrder(es, order, urgent)
	}
	return err
}

// placeInOrder places the entries in an order; nil: in their own.
func (db *DB) placeInOrder(es []entry, order []int, urgent bool) error {
	multi := len(es) > 1 || db.grouped()
	at := func(i int) *entry {
		if order == nil {
			return &es[i]
		}
		return &es[order[i]]
	}
	for i := range es {
		if err := db.placeOne(at(i), multi, urgent); err != nil {
			for j := range i {
				db.unplace(at(j))
			}
			return err
		}
	}
	return nil
}

func (db *DB) placeOne(e *entry, multi, urgent bool) error {
	if e.spill {
		if err := db.placeRuns(e, urgent); err != nil {
			return err
		}
	}
	for {
		err := db.placeRecord(e, multi, urgent)
		if errors.Is(err, ErrFull) && e.spill && !urgent && db.listElsewhere(e) {
			continue // a shorter list may find a slot
		}
		if err != nil {
			db.freeRuns(e)
		}
		return err
	}
}

// placeRecord allocates the slot of a record whose runs are placed.
func (db *DB) placeRecord(e *entry, multi, urgent bool) (err error) {
	e.rec = record.HeaderLen(e.flags(multi))
	if e.spill {
		e.rec += e.listBody()
	} else {
		e.rec += len(e.image) - record.MaxHeaderBytes
	}
	class, ok := db.r.ClassFor(e.rec)
	if !ok {
		return fmt.Errorf("nvkv: record of %d bytes has no class", e.rec)
	}
	e.off, err = db.r.AllocRecord(class, urgent)
	return err
}

func (db *DB) unplace(e *entry) {
	db.account(db.r.Return(e.off))
	db.freeRuns(e)
}

// store writes the records and the marks of their slabs (R5), without a fence.
func (db *DB) store(es []entry) error {
	if db.counter == record.MaxCounter {
		return fmt.Errorf("nvkv: run %d has used up its %d numbers", db.run, uint64(record.MaxCounter))
	}
	ordinal, count := 0, len(es)
	if db.grouped() {
		ordinal, count = int(db.group.records), 0
	}
	if ordinal == 0 {
		db.counter++
	}
	for i := range es {
		e := &es[i]
		if e.spill {
			if err := db.storeRuns(e); err != nil {
				return err
			}
		}
		if err := db.storeOne(e, ordinal, count); err != nil {
			return err
		}
		ordinal++
	}
	return nil
}

func (db *DB) storeOne(e *entry, ordinal, count int) error {
	if err := db.r.Touch(e.off); err != nil {
		return err
	}
	flags := e.flags(count != 1)
	h := record.HeaderLen(flags)
	img, sum := e.image[record.MaxHeaderBytes-h:], e.sum
	if e.spill {
		img = append(make([]byte, h, h+len(e.list)), e.list...)
		sum = record.BodySum(e.list)
	}
	rec := record.Record{Number: record.MakeNumber(db.run, db.counter), Kind: e.kind, Flags: flags, Ordinal: uint32(ordinal), Count: uint32(count), Expiry: e.expiry, KeyLen: len(e.key), ValLen: len(e.value())}
	rec.PutHeader(img)
	carve, _, _ := db.r.Carve(e.off, alloc.KindRecord)
	rec.Seal(img, sum, db.seed, carve, e.off)
	return db.m.Write(e.off, padded(img))
}

// padded extends a record to whole 8-byte words, which are cheaper to store than an odd tail. The
// memory behind a body is spare space or the space of the next header, whose first bytes are
// written only in its turn, so zeros do no harm there.
func padded(img []byte) []byte {
	n := (len(img) + 7) &^ 7
	if n > cap(img) {
		return img
	}
	out := img[:n]
	clear(out[len(img):])
	return out
}
