package kv

import (
	"errors"
	"sync/atomic"

	"nvkv/kv/internal/record"
)

// apply changes the tree: first the references of existing keys, in new value blocks, then keys
// that are added or removed.
func (rc *recovery) apply(parts []resolved) error {
	if err := rc.copyBlocks(parts); err != nil {
		return err
	}
	if err := rc.linkBlocks(parts); err != nil {
		return err
	}
	for i := range parts {
		for _, ch := range parts[i].changes {
			if err := rc.change(ch); err != nil {
				return err
			}
		}
	}
	return nil
}

// copyBlocks writes the value blocks that change, each to a new place. It takes as many parts at a
// time as DRAM has room for.
func (rc *recovery) copyBlocks(parts []resolved) error {
	// A frame may hold a single new block. Reading leaves takes at most this many frames.
	most := rc.db.m.CacheFrames() / 8
	for len(parts) > 0 {
		n, blocks := 0, 0
		for n < len(parts) && (n == 0 || blocks+len(parts[n].updates) <= most) {
			blocks += len(parts[n].updates)
			n++
		}
		if err := rc.copySome(parts[:n], blocks); err != nil {
			return err
		}
		parts = parts[n:]
	}
	return nil
}

// copySome is copyBlocks for parts that have n blocks together.
func (rc *recovery) copySome(parts []resolved, n int) error {
	ix := &rc.db.ix
	if n == 0 {
		return nil
	}
	if err := rc.db.roomFor(n); err != nil {
		return err
	}
	blocks, err := ix.TakeBlocks(n)
	if err != nil {
		return err
	}
	at := 0
	for i := range parts {
		// Two parts may have blocks in one page, so its frame is made before the parts are copied
		// in parallel.
		if at < n && len(parts[i].updates) > 0 {
			if err := ix.FrameOf(blocks[at:]); err != nil {
				return err
			}
		}
		more := len(parts[i].updates)
		parts[i].into = blocks[at : at+more]
		at += more
	}
	var next atomic.Int64
	return rc.share(func(int) error {
		for {
			i := int(next.Add(1)) - 1
			if i >= len(parts) {
				return nil
			}
			if err := rc.copyPart(&parts[i]); err != nil {
				return err
			}
		}
	})
}

func (rc *recovery) copyPart(p *resolved) error {
	sets := p.sets
	for i, u := range p.updates {
		if i > 0 && p.into[i].Page() != p.into[i-1].Page() {
			if err := rc.db.ix.FrameOf(p.into[i:]); err != nil {
				return err
			}
		}
		if err := rc.route.CopyVals(u.leaf, p.into[i], sets[:u.sets]); err != nil {
			return err
		}
		sets = sets[u.sets:]
	}
	return nil
}

// linkBlocks makes the parents of the leaves name the new value blocks.
func (rc *recovery) linkBlocks(parts []resolved) error {
	l := rc.route.Linker(rc.db.roomFor)
	for i := range parts {
		for j, u := range parts[i].updates {
			if err := l.Link(u.leaf, parts[i].into[j]); err != nil {
				return err
			}
		}
		parts[i].updates, parts[i].into, parts[i].sets = nil, nil, nil
	}
	return nil
}

// reserve reserves the pages and blocks for a change: the most that any tree needs or, if a full
// store does not have that many, the most that this tree needs.
func (rc *recovery) reserve(ch keyChange) error {
	db, es := rc.db, [1]entry{{key: ch.key, kind: record.KindPut}}
	if ch.ref == 0 {
		es[0].kind = record.KindDelete
	}
	n := db.planOne(&es[0])
	if err := db.roomFor(n.Pages + n.Blocks); err != nil {
		return err
	}
	err := db.ix.Reserve(n.Pages, n.Blocks, true)
	if !errors.Is(err, ErrFull) {
		return err
	}
	if n, err = db.planAll(es[:]); err != nil {
		return err
	}
	if err := db.ix.Find(ch.key, &db.way); err != nil {
		return err
	}
	own := db.ix.OwnedOn(&db.way) // the plan counts these as copies
	return db.ix.Reserve(n.Pages-own.Pages, n.Blocks-own.Blocks, true)
}

// change adds or removes a key.
func (rc *recovery) change(ch keyChange) error {
	if err := rc.reserve(ch); err != nil {
		return err
	}
	db := rc.db
	p := &db.way
	if err := db.ix.Find(ch.key, p); err != nil {
		return err
	}
	var err error
	switch {
	case ch.ref == 0 && p.Found():
		db.keys--
		_, err = db.ix.Remove(p)
	case ch.ref != 0 && !p.Found():
		db.keys++
		err = db.ix.Insert(ch.key, ch.ref, p)
	}
	db.holders.sweep(db.freePage)
	return err
}
