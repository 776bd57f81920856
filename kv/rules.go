package kv

import (
	"bytes"
	"errors"

	"nvkv/alloc"
	"nvkv/kv/internal/record"
)

// rules are invariants of the commit protocol that a test can switch off, to
// show that it would notice their absence. docs/design.md says what each is.
type rules uint64

const (
	ruleR1         rules = 1 << iota // one record per key in a transaction; with it R2, which holds by it
	ruleR4                           // each opening is a run of its own, and says how far the last one counts
	ruleR5                           // marks are renewed after a freeze
	ruleR6                           // a tombstone stays until a checkpoint has flipped
	ruleR6Recovery                   // so does one that recovery met
	ruleR7                           // expiry frees nothing by itself
	ruleR8                           // a flip frees what was listed at its freeze, nothing later
	ruleR9Fall                       // a generation without a good copy is never fallen back from
	ruleR9Fence                      // the copies of a superblock are fenced one by one
	ruleR10                          // maps mark what the root reaches
	ruleR12                          // recovery writes again what may not be durable
	ruleR13                          // a record of another key is not the answer
	ruleR15                          // nothing is written after a failed fence
	ruleI3                           // nothing is published before its fence
	ruleI5                           // slots of run lists that a checkpoint names stay
	ruleI6                           // runs that hold a key stay as long
	ruleI10                          // an opening takes back that nothing was written
	ruleI9Record                     // a snapshot keeps the slots and runs that it can see
	ruleI9Page                       // a holder keeps the pages and blocks that it can see
	ruleI9Reader                     // a point read counts if its leaf did not change meanwhile
	ruleR2                           // records of a group stay until the next one is fenced
	ruleI11                          // a group has a closing record
	ruleI8                           // a record moves under a new number
	ruleA10                          // blocks go only from what a flipped checkpoint has free
	ruleA11                          // a slab has blocks before it is carved
	ruleA12                          // the size word goes before the device is cut
	ruleI13                          // a frame outlives the sections that may look at it
	ruleI14                          // what is written before its checkpoint is sealed
	ruleI15                          // clean is what the device has all of
	ruleI12                          // a range deletes what is older, and only that
	ruleI7                           // a restored store counts when all of it is there
	ruleI1                           // no commit fails for want of space once it has written
	ruleI2                           // no record is written before the transaction before is fenced
	ruleI4                           // a checkpoint writes over nothing that the last one names
	ruleR3                           // what a transaction superseded in itself is not reused before its end
	ruleR11                          // what a recovery reads is bounded
	ruleR14                          // an opening read-only writes nothing
	ruleA4                           // every carving has a number of its own
	ruleA5                           // headers of new groups are fenced before the size word
	ruleI17                          // a read before the replay is through knows what will be replayed
	ruleI18                          // a record that is one byte from counting is not passed over
	ruleI19                          // an open writable Tx gets a snapshot before the state changes beneath it
)

// off says whether a test has switched a rule off.
func (db *DB) off(r rules) bool { return db.opt.broken&r != 0 }

// alloc returns those of the rules that are the allocator's.
func (r rules) alloc() (off alloc.Rules) {
	for from, to := range map[rules]alloc.Rules{ruleR9Fall: alloc.RuleA3, ruleR9Fence: alloc.RuleA2, ruleR10: alloc.RuleR10, ruleA10: alloc.RuleA10, ruleA12: alloc.RuleA12, ruleA11: alloc.RuleA11, ruleA4: alloc.RuleA4, ruleA5: alloc.RuleA5} {
		if r&from != 0 {
			off |= to
		}
	}
	return off
}

// resumeRun goes on with the numbers of the run that died, as an opening
// without R4 would.
func (rc *recovery) resumeRun() error {
	db := rc.db
	db.dirtySince = true
	db.sinceCheckpoint = rc.bytes
	db.checkpoints.base = rc.st
	db.run, db.counter = rc.st.run, rc.lastCounter()
	db.visible = record.MakeNumber(db.run, db.counter)
	return nil
}

// storeAsPlaced writes each record as soon as it has a slot, as a commit without
// I1 would: the store may turn out to be full in the middle.
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

// commitEach commits o and its group as transactions of their own under one
// fence, as a turn without I2 would.
func (db *DB) commitEach(o *op) error {
	all := append([]*op{o}, o.group...)
	for i, one := range all {
		if i < len(all)-1 {
			db.opt.broken |= ruleI3 // which is the fence
		} else {
			db.opt.broken &^= ruleI3
		}
		if err := db.commit(one.entries); err != nil {
			return err
		}
	}
	return nil
}

// moveVerbatim moves the record that db.way leads to as it is, under its old
// number, as an evacuation without I8 would.
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
	old, err := db.ix.Update(&db.way, to)
	if err != nil {
		return err
	}
	db.supersede(old, db.holders.newest)
	db.reclaimBeside(1)
	return nil
}
