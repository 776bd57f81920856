package kv

import (
	"bytes"

	"nvkv/kv/internal/btree"
	"nvkv/kv/internal/hashindex"
	"nvkv/kv/internal/record"
	"nvkv/nvmap"
)

// hashLook is the look of a key at the hash table.
type hashLook struct {
	hashindex.Look
	ref btree.Ref // the first reference that may be the key's; 0: none
	on  bool      // the table may tell something
}

// hashUnchanged says whether nothing has been published since the state that tx sees (I25).
func (tx *Tx) hashUnchanged() bool {
	return tx.db.hash.index.Changes() == tx.changes || tx.db.off(ruleI25)
}

// getHashed reads key from the hash table. It returns false if the tree of tx must answer. The value
// lives as long as one of Get. The error is nil or ErrNotFound.
func (tx *Tx) getHashed(key []byte) (value []byte, ok bool, err error) {
	if len(key) > MaxKeyBytes || !tx.hashUnchanged() {
		return nil, false, nil
	}
	h, on := tx.db.hashOf(key)
	var l hashLook
	if !on || !l.look(tx.db, h) {
		return nil, false, nil
	}
	value, ok, err = l.read(tx.db, key)
	return value, ok && tx.hashUnchanged(), err
}

// look begins a look and requests the record that it leads to.
func (l *hashLook) look(db *DB, h uint64) bool {
	l.ref = 0
	if l.on = db.hash.index.Look(h, &l.Look); !l.on {
		return false
	}
	if l.ref = btree.Ref(l.Next()); l.ref != 0 {
		db.ix.AskRecord(btree.RefOff(l.ref))
	}
	return true
}

// read reads the plain record of key, if the table names it, or finds that key is absent. It says
// whether it knows. Its answer counts if nothing was published since the state that the caller sees.
func (l *hashLook) read(db *DB, key []byte) (value []byte, known bool, err error) {
	if !l.on {
		return nil, false, nil
	}
	for x := l.ref; x != 0; x = btree.Ref(l.Next()) {
		var p record.Plain
		if x&btree.RefBits != 0 || !db.readPlain(x, &p) {
			return nil, false, nil
		}
		if bytes.Equal(p.Key, key) {
			return p.Value, true, nil
		}
	}
	return nil, l.Complete(), ErrNotFound
}

// readRecords reads the records that the looks of the first n probes found, together.
func (g *many) readRecords(db *DB, n int) {
	var pages [2 * btree.ProbesMost]nvmap.PageID
	ps := pages[:0]
	for k := range g.looks[:n] {
		if x := g.looks[k].ref; x != 0 {
			ps = db.ix.RecordPages(ps, btree.RefOff(x))
		}
	}
	if len(ps) > 0 {
		db.m.ReadAhead(ps)
	}
}

// readHashed answers those of the first n probes that the hash table can, and moves the others to
// the front. It returns how many these are.
func (g *many) readHashed(tx *Tx, n int) int {
	x := &tx.db.hash.index
	if n == 0 || !x.On() || !tx.hashUnchanged() {
		return n
	}
	var hashes [btree.ProbesMost]uint64
	for k := range g.probes[:n] {
		hashes[k] = x.Hash(g.probes[k].Key)
		x.Ask(hashes[k])
	}
	for k := range g.probes[:n] {
		g.looks[k].look(tx.db, hashes[k])
	}
	if !tx.db.ix.Mapped() {
		g.readRecords(tx.db, n)
	}
	var known [btree.ProbesMost]bool
	for k := range g.probes[:n] {
		i := g.at[k]
		g.values[i], known[k], g.errs[i] = g.looks[k].read(tx.db, g.probes[k].Key)
	}
	if !tx.hashUnchanged() {
		return n
	}
	left := 0
	for k := range g.probes[:n] {
		if !known[k] {
			g.probes[left].Key, g.at[left] = g.probes[k].Key, g.at[k]
			left++
		}
	}
	return left
}
