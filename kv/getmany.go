package kv

import (
	"bytes"
	"errors"
	"sync"

	"nvkv/kv/internal/btree"
	"nvkv/kv/internal/record"
)

// GetMany looks up all keys in one state of the store and calls fn once for each, in their order,
// until fn returns false. Keys may repeat. fn gets the index of the key and its value, or an error:
// ErrNotFound, ErrCorrupt and the like are of that key alone, and the next key follows. The value is
// valid until fn returns and must not be written. fn may use the DB as it likes.
//
// GetMany looks up 16 keys side by side, so that their waits for the medium overlap. For a few keys,
// or keys that are likely to be in the CPU's caches, Get is as fast.
func (db *DB) GetMany(keys [][]byte, fn func(i int, value []byte, err error) bool) error {
	if fn == nil {
		return errNil
	}
	return db.View(func(tx *Tx) error { return tx.GetMany(keys, fn) })
}

// GetMany is [DB.GetMany] in the state that the Tx sees, with its own changes. A value is valid as
// long as one of [Tx.Get]. If fn ends the Tx, GetMany returns ErrTxClosed.
func (tx *Tx) GetMany(keys [][]byte, fn func(i int, value []byte, err error) bool) error {
	if fn == nil {
		return errNil
	}
	if tx.over() {
		return ErrTxClosed
	}
	g := manyPool.Get().(*many)
	defer g.release()
	for from := 0; from < len(keys); from += btree.ProbesMost {
		group := keys[from:min(from+btree.ProbesMost, len(keys))]
		if err := g.read(tx, group); err != nil {
			return err
		}
		for i := range group {
			value, err := g.values[i], g.errs[i]
			if err == nil {
				value = tx.lend(value)
			}
			if !fn(from+i, value, err) {
				return nil
			}
			if tx.over() {
				return ErrTxClosed
			}
		}
	}
	return nil
}

// many is a group of keys that are looked up side by side.
type many struct {
	probes [btree.ProbesMost]btree.Probe
	looks  [btree.ProbesMost]hashLook
	at     [btree.ProbesMost]int // the key of each probe
	values [btree.ProbesMost][]byte
	errs   [btree.ProbesMost]error
}

var manyPool = sync.Pool{New: func() any { return new(many) }}

// release gives g back without references to what it read.
func (g *many) release() {
	*g = many{}
	manyPool.Put(g)
}

// read looks up a group. Its error is one of the Tx; those of keys are in g.errs.
func (g *many) read(tx *Tx, keys [][]byte) error {
	err := g.readTogether(tx, keys)
	if !errors.Is(err, ErrMediaFault) {
		return err
	}
	for i, key := range keys { // one of them lies where the medium fails
		g.values[i], g.errs[i] = tx.Get(key)
	}
	return nil
}

func (g *many) readTogether(tx *Tx, keys [][]byte) (err error) {
	db := tx.db
	db.readRoom()
	in, err := tx.enter()
	if err != nil {
		return err
	}
	defer tx.leave(in)
	defer db.guarded("get", panicOnFault(true), &err)
	n := 0
	for i, key := range keys {
		g.values[i], g.errs[i] = nil, nil
		changed := tx.changed(key)
		switch {
		case len(key) > MaxKeyBytes || changed != nil && changed.kind == record.KindDelete:
			g.errs[i] = ErrNotFound
		case changed != nil:
			g.values[i] = changed.value()
		default:
			g.probes[n].Key, g.at[n] = key, i
			n++
		}
	}
	n = g.readHashed(tx, n)
	db.ix.SeekMany(tx.root, g.probes[:n])
	for k := range g.probes[:n] {
		i := g.at[k]
		g.values[i], g.errs[i] = tx.valueOf(&g.probes[k])
	}
	return nil
}

// valueOf returns the value of a key that was looked up.
func (tx *Tx) valueOf(p *btree.Probe) ([]byte, error) {
	switch {
	case p.Err != nil:
		return nil, p.Err
	case !p.Found:
		return nil, ErrNotFound
	}
	var plain record.Plain
	if p.Ref&btree.RefBits == 0 && tx.db.readPlain(btree.RefOff(p.Ref), &plain) && bytes.Equal(plain.Key, p.Key) {
		return plain.Value, nil
	}
	rec, err := tx.db.recordOf(p.Ref, p.Key, tx.at)
	if err != nil {
		return nil, err
	}
	_, value, err := tx.db.content(rec)
	return value, err
}
