package kv

import (
	"nvkv/alloc"
	"nvkv/kv/internal/btree"
	"nvkv/kv/internal/record"
	"nvkv/nvmap"
)

// entry is one operation on its way to the medium.
type entry struct {
	kind    byte
	image   []byte // room for a header, then the body
	key     []byte // in image
	sum     uint32 // checksum of the body, computed before the turn
	expiry  int64
	open    bool             // a range without end
	spill   bool             // the value goes to runs
	bare    bool             // the key too
	moved   bool             // by the evacuator: nobody's put
	lent    []byte           // the value, where it is the caller's own and not in image
	list    []byte           // body of a spilled record: the key unless bare, then the run list
	levels  [][]alloc.Extent // what holds the bytes in runs, then the list of that, and so on; the last one's is in list
	extents []alloc.Extent   // all of them
	cut     *btree.Cutting   // of a range
	off     nvmap.Off
	rec     int // bytes in the slot
}

func (e *entry) value() []byte {
	if e.lent != nil {
		return e.lent
	}
	return e.image[record.MaxHeaderBytes+len(e.key):]
}

// bodyBytes is how long key and value are.
func (e *entry) bodyBytes() int { return len(e.image) - record.MaxHeaderBytes + len(e.lent) }

// prepare does what needs no turn: the checksum of the body. It refuses what no
// record can hold: a recovery would take it for torn, with all of its transaction.
func (db *DB) prepare(e *entry) error {
	if err := e.checkSizes(); err != nil {
		return err
	}
	body := e.image[record.MaxHeaderBytes:]
	e.spill = e.bodyBytes()+record.MaxHeaderBytes > db.r.LargestSlot()
	e.bare = e.spill && len(e.key) > db.r.LargestSlot()/4
	if e.spill {
		body = e.inRuns()
	}
	if e.lent == nil {
		e.sum = record.BodySum(body)
	}
	return nil
}

// checkSizes says whether a record can hold the entry.
func (e *entry) checkSizes() error {
	if e.kind == record.KindRange && len(e.value()) > record.MaxRangeEnd {
		return ErrKeyTooLarge
	}
	return checkSizes(len(e.key), len(e.value()))
}

func (e *entry) flags(multi bool) (f byte) {
	if multi {
		f |= record.FlagMulti
	}
	if e.expiry != 0 {
		f |= record.FlagExpiry
	}
	if e.open {
		f |= record.FlagOpen
	}
	if e.spill {
		f |= record.FlagSpill
		if e.bare {
			f |= record.FlagSpillKey
		}
	}
	return f
}

// inRuns returns what of the image of a spilled entry lies in runs.
func (e *entry) inRuns() []byte {
	if e.bare {
		return e.image[record.MaxHeaderBytes:]
	}
	return e.image[record.MaxHeaderBytes+len(e.key):]
}

// inline returns what of the key of a spilled entry stands beside the run list.
func (e *entry) inline() []byte {
	if e.bare {
		return nil
	}
	return e.key
}

// runBytes is how many bytes of a spilled entry lie in runs.
func (e *entry) runBytes() int64 { return int64(e.bodyBytes() - len(e.inline())) }

// ref is what the index stores for e.
func (e *entry) ref() btree.Ref {
	r := e.off
	if e.spill {
		r |= btree.RefSpill
	}
	if e.expiry != 0 {
		r |= btree.RefTTL
	}
	return r
}
