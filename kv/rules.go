package kv

import (
	"bytes"
	"errors"

	"nvkv/alloc"
	"nvkv/internal/debug"
	"nvkv/kv/internal/record"
)

// rules are invariants that a test can switch off, to show that it notices their absence.
// docs/design.md defines them.
type rules uint64

const (
	ruleR1         rules = 1 << iota // one record per key in a transaction; R2 goes with it
	ruleR4                           // each opening is a run, and limits the last run
	ruleR5                           // marks are renewed after a freeze
	ruleR6                           // a tombstone stays until a checkpoint has flipped
	ruleR6Recovery                   // so does one that a recovery found
	ruleR7                           // expiry frees nothing by itself
	ruleR8                           // a flip frees what was listed at its freeze, nothing later
	ruleR9Fall                       // no falling back to an older generation
	ruleR9Fence                      // the copies of a superblock are fenced one by one
	ruleR10                          // maps mark what the root reaches
	ruleR12                          // recovery writes again what may not be durable
	ruleR13                          // a record of another key is not the answer
	ruleR15                          // nothing is written after a failed fence
	ruleI3                           // nothing is published before its fence
	ruleI5                           // slots of run lists that a checkpoint names stay
	ruleI6                           // runs that hold a key stay as long
	ruleI10                          // an opening revokes the mark "nothing was written"
	ruleI9Record                     // a snapshot keeps the slots and runs that it can see
	ruleI9Page                       // a holder keeps the pages and blocks that it can see
	ruleI9Reader                     // a point read counts only if its leaf is unchanged
	ruleR2                           // records of a group stay until the next one is fenced
	ruleI11                          // a group has a closing record
	ruleI8                           // a record moves under a new number
	ruleA10                          // blocks go only from slabs free in a flipped checkpoint
	ruleA11                          // a slab has blocks before it is carved
	ruleA12                          // the size word shrinks before the device is cut
	ruleI13                          // a frame outlives the sections that may look at it
	ruleI14                          // a page written before its checkpoint is sealed
	ruleI15                          // a page is clean only if the device has all of it
	ruleI12                          // a range deletes older records, and only those
	ruleI7                           // a restored store counts when all of it is durable
	ruleI1                           // no commit fails for want of space after its first write
	ruleI2                           // a transaction is fenced before the next one writes
	ruleI4                           // a checkpoint overwrites nothing that the last one names
	ruleR3                           // a Tx reuses none of its own records before its end
	ruleR11                          // the bytes that a recovery reads are bounded
	ruleR14                          // a read-only opening writes nothing
	ruleA4                           // every carving has a number of its own
	ruleA5                           // headers of new groups are fenced before the size word
	ruleI17                          // early reads know the records to be replayed
	ruleI18                          // a record that is one byte from passing is not passed over
	ruleI19                          // an open writable Tx gets a snapshot before its state changes
	ruleI21                          // entries of the hash table follow the tree
	ruleI22                          // an answer from the hash table counts only if the look stands
	ruleI23                          // a key enters the hash table only if its leaf is unchanged
	ruleI24                          // only a complete bucket shows absence
	ruleI25                          // a Tx uses the hash table only if nothing was published since
)

// off says whether a test has switched the rule off.
func (db *DB) off(r rules) bool { return db.opt.broken.has(r) }

// has reports whether r switches off one of off. It is a constant in builds that are no debug builds,
// so the compiler leaves out what depends on it.
func (r rules) has(off rules) bool { return debug.On && r&off != 0 }

// resumeRun continues the numbers of the run that died, as an opening without R4 would.
func (rc *recovery) resumeRun() error {
	db := rc.db
	db.dirtySince = true
	db.sinceCheckpoint = rc.bytes
	db.checkpoints.base = rc.st
	db.run, db.counter = rc.st.run, rc.lastCounter()
	db.visible = record.MakeNumber(db.run, db.counter)
	return nil
}

// storeAsPlaced writes each record as soon as it has a slot, as a commit without I1 would. So the
// store may become full after the first write.
func (db *DB) storeAsPlaced(es []entry, urgent bool) error {
	db.counter++
	for i := range es {
		err := db.placeOne(&es[i], len(es) > 1, urgent)
		if err != nil {
			for j := range i {
				db.unplace(&es[j])
			}
			return err
		}
		if es[i].spill {
			if err := db.storeRuns(&es[i]); err != nil {
				return err
			}
		}
		if err := db.storeOne(&es[i], i, len(es)); err != nil {
			return err
		}
	}
	return nil
}

// commitEach commits o and its group as separate transactions under one fence, as a turn without I2
// would.
func (db *DB) commitEach(o *op) error {
	all := append([]*op{o}, o.group...)
	for i, one := range all {
		if i < len(all)-1 {
			db.opt.broken |= ruleI3 // leaves the fence out
		} else {
			db.opt.broken &^= ruleI3
		}
		if err := db.commit(one.entries); err != nil {
			return err
		}
	}
	return nil
}

// moveVerbatim moves the record at db.way unchanged, under its old number, as an evacuation without
// I8 would.
func (db *DB) moveVerbatim(rec *record.Record) error {
	class, _ := db.r.ClassFor(rec.Size)
	to, err := db.r.AllocRecord(class, true)
	if err != nil {
		return err
	}
	img := bytes.Clone(db.bytesAt(rec.Off, rec.Size))
	carve, _, _ := db.r.Carve(to, alloc.KindRecord)
	rec.Seal(img, record.BodySum(img[record.HeaderLen(rec.Flags):]), db.seed, carve, to)
	if err := errors.Join(db.r.Touch(to), db.m.Write(to, img), db.m.Fence()); err != nil {
		return err
	}
	db.publish.Lock()
	defer db.publish.Unlock()
	db.account(db.r.SetLive(to))
	l := db.hash.index.Lock(db.hash.index.Hash(rec.Key))
	old, err := db.ix.Update(&db.way, to)
	if err != nil {
		return err
	}
	l.Set(db.hash.index.Hash(rec.Key), uint64(old), uint64(to))
	l.Unlock()
	db.supersede(old, db.holders.newest)
	db.reclaimBeside(1)
	return nil
}
