package kv

import (
	"nvkv/alloc"
	"nvkv/kv/internal/btree"
	"nvkv/kv/internal/record"
	"nvkv/nvmap"
)

// reach calls fn for every slot that root reaches, with its kind, and runs for the extents of
// spilled records. around may be nil: see btree.Visitor.
func (db *DB) reach(root nvmap.PageID, around func(btree.Child, error) error, fn func(o nvmap.Off, k alloc.Kind) error, runs func(alloc.Extent) error) error {
	return db.ix.Walk(root, &btree.Visitor{
		Around: around,
		Page:   func(id nvmap.PageID, _ *btree.Page) (bool, error) { return true, fn(id.Off(), alloc.KindPage) },
		Vals:   func(n uint64, _ *btree.Vals) error { return fn(btree.Child{Vals: n}.ValsOff(), alloc.KindBlock) },
		Leaf: func(pg *btree.Page, b *btree.Vals) error {
			for i := range min(btree.Count(pg), btree.LeafFanout) {
				x := btree.ValAt(b, i)
				if err := fn(btree.RefOff(x), alloc.KindRecord); err != nil {
					return err
				}
				if x&btree.RefSpill == 0 {
					continue
				}
				if err := db.reachRuns(btree.RefOff(x), runs); err != nil {
					return err
				}
			}
			return nil
		},
	})
}

func (db *DB) reachRuns(o nvmap.Off, runs func(alloc.Extent) error) error {
	var rec record.Record
	if err := db.readRecord(o, &rec); err != nil {
		return nil // reads of it report the damage; its runs cannot be known
	}
	l, _ := db.runs(&rec)
	for _, e := range l.Extents {
		if err := runs(e); err != nil {
			return err
		}
	}
	return nil
}
