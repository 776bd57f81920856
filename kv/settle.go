package kv

import (
	"nvkv/alloc"
	"nvkv/kv/internal/btree"
	"nvkv/kv/internal/record"
	"nvkv/nvmap"
)

// settle decides which slots are used and which the index reaches from now on.
func (rc *recovery) settle(parts []resolved) error {
	r := rc.db.r
	err := rc.share(func(w int) error {
		// First the displaced slots: another record may have won such a slot.
		for i := range parts {
			for _, o := range parts[i].owners[w].displaced {
				r.UnclaimLive(o) // if it is not live, a record that counts has taken it
			}
		}
		for i := range parts {
			own := &parts[i].owners[w]
			for _, o := range own.losers {
				r.Unclaim(o)
			}
			for _, o := range own.winners {
				if err := r.ClaimLive(o, alloc.KindRecord); err != nil {
					return err
				}
			}
			*own = slotChanges{}
		}
		return nil
	})
	if err != nil {
		return err
	}
	for i := range parts {
		p := &parts[i]
		rc.db.tombs = append(rc.db.tombs, p.tombs...)
		rc.db.recovered.replayed += p.replayed
		rc.bytes += p.bytes
		for _, o := range p.rotten {
			rc.damage(o, rottenRecord, rc.bare[o])
		}
	}
	rc.settleSpilled(parts)
	return nil
}

// settleSpilled is settle for records with runs. A displaced record and a newer one may name the
// same page.
func (rc *recovery) settleSpilled(parts []resolved) {
	var runs []alloc.Extent
	for i := range parts {
		for _, s := range parts[i].spilled {
			if !s.won {
				runs = append(runs, rc.displaceSpilled(s)...)
			}
		}
	}
	kept := map[nvmap.Off]struct{}{}
	for i := range parts {
		for _, s := range parts[i].spilled {
			if s.won {
				rc.winSpilled(s.ref, kept)
			}
		}
	}
	for _, x := range rc.db.tombs { // R6, I6
		if x&btree.RefSpill != 0 {
			rc.eachRun(x, func(o nvmap.Off) { rc.keepForTomb(o, kept) })
		}
	}
	for _, e := range rc.heldRuns {
		rc.eachUsed(e, func(o nvmap.Off) {
			if _, keep := kept[o]; !keep {
				rc.keepForTomb(o, kept)
				rc.db.tombs = append(rc.db.tombs, o) // single pages: the list cannot be read again
			}
		})
	}
	for _, e := range runs {
		rc.eachUsed(e, func(o nvmap.Off) {
			if _, keep := kept[o]; !keep {
				rc.db.r.Unclaim(o)
			}
		})
	}
}

// keepForTomb keeps a page of a key that is not in the index. The checkpoint may have reached
// another record in that page, which was freed since. Now the index does not reach the page (R10).
func (rc *recovery) keepForTomb(o nvmap.Off, kept map[nvmap.Off]struct{}) {
	if _, won := kept[o]; !won {
		_ = rc.db.r.Retake(o, alloc.KindRun)
	}
	kept[o] = struct{}{}
}

// displaceSpilled removes a record from the slots that the index reaches, and returns the runs that
// are free unless another record has them.
func (rc *recovery) displaceSpilled(s spilledChange) []alloc.Extent {
	db := rc.db
	o := btree.RefOff(s.ref)
	if s.old && !db.r.IsLive(o) {
		return nil // a record that counts has taken it
	}
	var rec record.Record
	if db.readRecord(o, &rec) != nil {
		db.r.Unclaim(o)
		return nil
	}
	_ = db.r.Retake(o, alloc.KindRecord)
	l, _ := db.runs(&rec) // what cannot be read stays allocated
	switch {
	case s.keep || rec.Flags&record.FlagSpillKey != 0:
		db.tombs = append(db.tombs, s.ref&^btree.RefTTL) // I6
		rc.eachRun(s.ref, func(o nvmap.Off) { _ = db.r.Retake(o, alloc.KindRun) })
		return nil
	case rec.Number <= db.frozenLast: // I5
		db.tombs = append(db.tombs, o)
		rc.heldRuns = append(rc.heldRuns, rc.inside(l.Listing())...)
		return rc.inside(l.Data())
	}
	db.r.Unclaim(o)
	return rc.inside(l.Extents)
}

// inside returns the extents that lie on the device.
func (rc *recovery) inside(extents []alloc.Extent) (out []alloc.Extent) {
	for _, e := range extents {
		if rc.db.r.CheckExtent(e) == nil {
			out = append(out, e)
		}
	}
	return out
}

// winSpilled makes a record and its runs live and keeps their pages.
func (rc *recovery) winSpilled(x btree.Ref, kept map[nvmap.Off]struct{}) {
	db := rc.db
	_ = db.r.ClaimLive(btree.RefOff(x), alloc.KindRecord)
	rc.eachRun(x, func(o nvmap.Off) {
		_ = db.r.ClaimLive(o, alloc.KindRun)
		kept[o] = struct{}{}
		rc.bytes += nvmap.PageBytes
	})
}

// eachRun calls fn for the pages of a record's runs that are used as such.
func (rc *recovery) eachRun(x btree.Ref, fn func(nvmap.Off)) {
	var rec record.Record
	if rc.db.readRecord(btree.RefOff(x), &rec) != nil {
		return
	}
	l, _ := rc.db.runs(&rec)
	for _, e := range rc.inside(l.Extents) {
		rc.eachUsed(e, fn)
	}
}

// eachUsed calls fn for the pages of a run that are used as such. Their slabs may have been carved
// for another kind since the run was freed.
func (rc *recovery) eachUsed(e alloc.Extent, fn func(nvmap.Off)) {
	for o := e.Off; o < e.Off+nvmap.Off(e.Bytes); o += nvmap.PageBytes {
		if _, _, run := rc.db.r.Carve(o, alloc.KindRun); run && rc.db.r.IsUsed(o) {
			fn(o)
		}
	}
}
