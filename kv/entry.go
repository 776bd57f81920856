package kv

import (
	"nvkv/alloc"
	"nvkv/kv/internal/btree"
	"nvkv/kv/internal/record"
	"nvkv/nvmap"
)

// entry is one operation of a commit.
type entry struct {
	kind    byte
	image   []byte // space for a header, then the body
	key     []byte // in image
	sum     uint32 // checksum of the body, computed before the turn
	expiry  int64
	open    bool             // a range without an end
	spill   bool             // the value lies in runs
	bare    bool             // the key lies in runs too
	moved   bool             // a move by the evacuator, not a user's put
	lent    []byte           // the value, if it is in the caller's memory and not in image
	list    []byte           // body of a spilled record: the key unless bare, then the run list
	levels  [][]alloc.Extent // extents of the bytes in runs, then of their list, and so on
	extents []alloc.Extent   // all extents of levels
	cut     *btree.Cutting   // of a range
	hash    uint64           // of the key, for the hash table
	was     btree.Ref        // what the tree had for the key; 0: nothing
	off     nvmap.Off
	rec     int // bytes in the slot
}

func (e *entry) value() []byte {
	if e.lent != nil {
		return e.lent
	}
	return e.image[record.MaxHeaderBytes+len(e.key):]
}

// bodyBytes returns the length of key and value together.
func (e *entry) bodyBytes() int { return len(e.image) - record.MaxHeaderBytes + len(e.lent) }

// prepare does the work that needs no turn: it computes the checksum of the body. It refuses what a
// record cannot hold, because a recovery would take the record for torn, with its whole
// transaction.
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

// checkSizes returns an error if a record cannot hold the entry.
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

// inRuns returns the part of a spilled entry's image that lies in runs.
func (e *entry) inRuns() []byte {
	if e.bare {
		return e.image[record.MaxHeaderBytes:]
	}
	return e.image[record.MaxHeaderBytes+len(e.key):]
}

// inline returns the key of a spilled entry if it lies beside the run list, else nil.
func (e *entry) inline() []byte {
	if e.bare {
		return nil
	}
	return e.key
}

// runBytes returns how many bytes of a spilled entry lie in runs.
func (e *entry) runBytes() int64 { return int64(e.bodyBytes() - len(e.inline())) }

// ref returns the reference of the entry in the index.
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
