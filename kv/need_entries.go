package kv

import (
	"nvkv/kv/internal/btree"
	"nvkv/kv/internal/record"
)

// planOne returns the pages and blocks that the publication of e needs at most. It does not look at
// the tree.
func (db *DB) planOne(e *entry) btree.Stock {
	if e.kind == record.KindRange {
		return db.ix.NeedOfCut()
	}
	return db.ix.PlanOne(len(e.key), e.kind == record.KindDelete)
}

// needFor returns the pages and blocks that the publication of es needs at most. If the reserved
// stock covers the worst case, it does not look at the tree. Nor does it for a single entry, whose
// path is searched while its stores drain, unless long keys could need much more.
func (db *DB) needFor(es []entry) (btree.Stock, error) {
	var worst btree.Stock
	has := db.ix.Reserved()
	for i := range es {
		if worst.Add(db.planOne(&es[i])); !has.Covers(worst) {
			break
		}
	}
	if has.Covers(worst) || len(es) == 1 && worst.Pages <= btree.StockMost.Pages {
		return worst, nil
	}
	return db.planAll(es)
}

// planAll computes the need of entries in this tree. The tree must not change until they are
// published.
func (db *DB) planAll(es []entry) (btree.Stock, error) {
	n, _, err := db.planned(es)
	return n, err
}

// planned is planAll. It also says whether more than copies of pages may be needed.
func (db *DB) planned(es []entry) (most btree.Stock, grows bool, err error) {
	n, deletes := rangesOf(es), false
	ranges := make([]*btree.Cutting, n)
	for i := range ranges {
		ranges[i] = es[i].cut
	}
	es = es[n:]
	for i := range es {
		deletes = deletes || es[i].kind == record.KindDelete
	}
	p := db.ix.NewPlan(ranges, deletes)
	db.spots.all, db.spots.moved = db.spots.all[:0], db.ix.Moved()
	for len(es) > 0 {
		var cs [btree.Together]btree.Change
		n := min(len(es), len(cs))
		for i := range es[:n] {
			cs[i] = btree.Change{Key: es[i].key, Deletes: es[i].kind == record.KindDelete}
		}
		if err := p.Add(cs[:n]); err != nil {
			return btree.Stock{}, false, err
		}
		for i := range cs[:n] {
			if len(ranges) == 0 {
				db.spots.all = append(db.spots.all, cs[i].Spot)
			}
		}
		es = es[n:]
	}
	most, err = p.End()
	return most, p.Grows(), err
}

// spots are where a plan found the keys of a commit, none if it has ranges. They hold as long
// as no key of the tree has moved. A commit whose plan was not made has none.
type spots struct {
	all   []btree.Spot
	moved uint64
	near  bool // db.way leads to the key that the commit published last, and is valid
}

// of returns the spot of entry i of n, nil if it is not known any more.
func (s *spots) of(i, n int, ix *btree.Index) *btree.Spot {
	if len(s.all) != n || s.moved != ix.Moved() {
		return nil
	}
	return &s.all[i]
}
