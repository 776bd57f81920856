package kv

import (
	"context"

	"nvkv/alloc"
	"nvkv/kv/internal/btree"
)

// emptyIndexSlabs empties sparse slabs of index pages, value blocks and runs, in one walk along the
// leaves, and says whether it moved anything. The next checkpoint frees the old places. It leaves
// out kinds that waste no more than slack bytes.
func (db *DB) emptyIndexSlabs(ctx context.Context, p *pace, slack int64) (moved bool, err error) {
	w := walkRound{db: db}
	err = db.moving(p, func() error {
		for _, k := range []alloc.Kind{alloc.KindPage, alloc.KindBlock, alloc.KindRun} {
			if db.r.Waste(k) <= slack {
				continue
			}
			if n := db.r.TakeSparseOf(k); n > 0 {
				moved = true
				w.runs = w.runs || k == alloc.KindRun
			}
		}
		if moved {
			w.begin()
		}
		return nil
	})
	if err != nil || !moved {
		return false, err
	}
	return true, w.walk(ctx, p, nil)
}

// walkRound walks the leaves in key order, a stretch at a time, and moves pages, blocks and runs
// out of victims: the slabs to be emptied. With order it also moves records, leaf by leaf, that do
// not lie in the order of their keys.
type walkRound struct {
	db      *DB
	runs    bool // move records whose runs lie in victims
	records bool // move records that lie in victims
	order   bool // move records that are scattered
	keys    int64
	bytes   int64
	grouped int64 // bytes moved since endGroup closed a group
}

// begin begins a new epoch, so that every page in a victim is copied when it is owned, and gives
// the reserved pages back. The caller holds the turn.
func (w *walkRound) begin() {
	db := w.db
	db.publish.Lock()
	defer db.publish.Unlock()
	db.ix.NextEpoch()
	db.dirtySince = true
	db.ix.KeepReserved(btree.Stock{})
}

func (w *walkRound) walk(ctx context.Context, p *pace, told *progress) error {
	from := []byte(nil)
	for more := true; more; {
		if err := ctx.Err(); err != nil {
			return err
		}
		n := int64(0)
		err := w.db.moving(p, func() (err error) {
			for range stepLeaves {
				var moved int64
				if from, more, moved, err = w.leaf(from); err != nil || !more {
					return err
				}
				if n += moved; n >= stepBytes {
					return nil
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
		w.bytes += n
		if err := w.endGroup(n); err != nil {
			return err
		}
		if told != nil {
			told.tell(w.keys, w.bytes, false)
		}
		if !p.after(ctx, n) {
			return ctx.Err()
		}
	}
	return nil
}

// groupMoves is how many bytes are moved before the open group is closed. The old slots are free
// after the fence of the next group.
const groupMoves = 1 << 20

// endGroup closes the open group of relaxed mode when groupMoves is reached. n is how many more
// bytes were moved.
func (w *walkRound) endGroup(n int64) error {
	if w.grouped += n; w.grouped < groupMoves || !w.db.group.used.Load() {
		return nil
	}
	w.grouped = 0
	return w.db.syncGroup()
}

// leaf moves what is to be moved of the leaf to which from belongs. It returns the key at which the
// next leaf begins. The caller holds the turn.
func (w *walkRound) leaf(from []byte) (next []byte, more bool, moved int64, err error) {
	db := w.db
	if err := db.roomFor(4 * db.ix.Height()); err != nil {
		return nil, false, 0, db.fail(err)
	}
	m := mover{db: db, together: db.evac.together}
	err = db.insidePages(func() error {
		if next, more, err = w.relocate(from); err != nil || !w.order && !w.records && !w.runs {
			return err
		}
		stop, err := w.collect(&m, from)
		if stop != nil {
			more = true
			next, err = db.ix.Onward(&db.way, from, stop)
		}
		return err
	})
	if err != nil {
		return nil, false, 0, err
	}
	moved, err = m.finish()
	return next, more, moved, err
}

// relocate copies the pages on the path to from that lie in victims, and the leaf's value block if
// it does.
func (w *walkRound) relocate(from []byte) (next []byte, more bool, err error) {
	db, ix := w.db, &w.db.ix
	if err := ix.Reserve(2*ix.Height()+2, 2, true); err != nil {
		return nil, false, err
	}
	defer ix.KeepStock()
	p := &db.way
	if err := ix.Find(from, p); err != nil {
		return nil, false, err
	}
	err = db.change(func() error { return db.relocateWay(p) })
	if err != nil {
		return nil, false, err
	}
	if next, err = ix.FenceAbove(p, 0); next == nil || err != nil {
		return nil, false, err
	}
	next, err = ix.Onward(p, from, next)
	return next, true, err
}

func (db *DB) relocateWay(p *btree.Path) error {
	if err := db.ix.Relocate(p, db.r.IsVictim); err != nil {
		return db.fail(err)
	}
	db.dirtySince = true
	db.reclaimBeside(1)
	return nil
}

// collect collects the records of from's leaf that are to be moved. If a step is full it returns
// the key at which to continue.
func (w *walkRound) collect(m *mover, from []byte) (stop []byte, err error) {
	db, ix := w.db, &w.db.ix
	if err := ix.Find(from, &db.way); err != nil {
		return nil, err
	}
	way := db.way // the moves overwrite db.way
	refs := ix.RefsFrom(&way)
	scattered := w.order && db.scattered(refs)
	for i, x := range refs {
		if m.bytes() >= stepBytes {
			stop, err = ix.KeyBehind(&way, i)
			return stop, err
		}
		w.keys++
		if w.moves(x, scattered) {
			if err := m.add(btree.RefOff(x)); err != nil {
				return nil, err
			}
		}
	}
	return nil, nil
}

// moves says whether the record at x is to be moved.
func (w *walkRound) moves(x btree.Ref, scattered bool) bool {
	db := w.db
	victim := w.records && db.r.IsVictim(btree.RefOff(x))
	if x&btree.RefSpill != 0 { // a large value is not written again for the sake of order
		return w.runs && (victim || db.inVictims(x))
	}
	if victim {
		return true
	}
	return scattered
}
