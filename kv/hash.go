package kv

import (
	"bytes"

	"nvkv/kv/internal/btree"
	"nvkv/kv/internal/hashindex"
	"nvkv/kv/internal/record"
)

// A hash table in DRAM beside the tree answers most point reads without a descent: it maps the hash
// of a key to the reference that the tree has for it. It is a cache and never the truth. Package
// hashindex describes it.
//
// I21. While a bucket can be used, each of its entries is what the published tree has for a key. Who
// changes the tree for one key holds the key's bucket from before the change until the entry has
// followed. Who shows a transaction of several records lets the entries follow before readers may
// look: while the store-wide counter is odd, or while the table is shut.
//
// I22. An answer from the table counts only if neither the bucket nor the table nor the counter has
// changed since the look, as with the version of a leaf: then the record that was read was the
// tree's, and its slot was not reused.
//
// I23. A key that a reader has found in the tree is added only if its leaf is still unchanged while
// the bucket is held.
//
// I24. A bucket shows that a key is absent only if nothing was lost from it and a walk over the
// whole tree has covered the table since it was cleared.
//
// I25. A Tx uses the table only while nothing has been published since the state that it sees.

// hashed is the hash table of a store, with the goroutine that fills it.
type hashed struct {
	index hashindex.Index
	most  int // buckets

	wake    chan struct{}
	stop    chan struct{}
	exited  chan struct{}
	running bool
	stuck   uint32 // the tag of a table whose walk met damage; of the goroutine

	dropped *hashindex.Table // given up, but not released; publish guards it

	left []leftKey // keys that ranges of the commit under way remove one by one; the turn guards it
}

// leftKey is a key that left the tree.
type leftKey struct {
	hash uint64
	ref  btree.Ref
}

// hashOf returns the hash of key, and whether there is a table.
func (db *DB) hashOf(key []byte) (h uint64, on bool) {
	if x := &db.hash.index; x.On() {
		return x.Hash(key), true
	}
	return 0, false
}

// askHash returns the hash of a key whose bucket is needed soon.
func (db *DB) askHash(key []byte) uint64 {
	h, on := db.hashOf(key)
	if on {
		db.hash.index.Ask(h)
	}
	return h
}

// getHashed answers a point read from the table. Retry means that the tree must.
func (db *DB) getHashed(dst, key []byte, h uint64, want bool, shown uint64) ([]byte, btree.Outcome) {
	var l hashindex.Look
	if !db.hash.index.Look(h, &l) {
		return dst, btree.Retry
	}
	for {
		x := btree.Ref(l.Next())
		if x == 0 {
			break
		}
		if x&btree.RefSpill != 0 {
			return dst, btree.Slow
		}
		db.ix.AskRecord(btree.RefOff(x))
		var p record.Plain
		expiry, err := db.readAny(x, &p)
		if err != nil {
			return dst, btree.Retry // it was reused, or is damaged
		}
		if !bytes.Equal(p.Key, key) {
			continue
		}
		if expiry != 0 && expiry <= db.now() {
			return dst, db.ifHashStands(&l, shown, btree.Absent)
		}
		n := len(dst)
		if want {
			dst = appendValue(dst, p.Value)
		}
		if res := db.ifHashStands(&l, shown, btree.Found); res != btree.Found {
			return dst[:n], res
		}
		return dst, btree.Found
	}
	if !l.Complete() && !db.off(ruleI24) {
		return dst, btree.Retry
	}
	return dst, db.ifHashStands(&l, shown, btree.Absent)
}

// ifHashStands returns res if a look at the table still stands (I22), else Retry.
func (db *DB) ifHashStands(l *hashindex.Look, shown uint64, res btree.Outcome) btree.Outcome {
	if db.off(ruleI22) || l.Stands() && db.showing.Load() == shown {
		return res
	}
	return btree.Retry
}

// hashFound adds a key that a point read has found in the tree.
func (db *DB) hashFound(h uint64, hit *btree.Hit, shown uint64) {
	x := &db.hash.index
	db.hashMissed(h)
	if !x.Wants(h) {
		return
	}
	if l, ok := x.TryLock(h); ok {
		if db.off(ruleI23) || db.stands(hit, shown) {
			l.Replace(h, uint64(hit.Rec))
		}
		l.Unlock()
	}
}

// hashMissed notes that the table could not answer a read. A store that is read a little wakes the
// walk over the whole tree.
func (db *DB) hashMissed(h uint64) {
	t := db.hash.index.Table()
	if t == nil || t.IsCovered() || h>>32&hashSample != 0 && t.Buckets() > hashSmall {
		return
	}
	db.wakeHash()
}

const (
	// hashSample is the share of reads that wake the walk: one in 256 that the table cannot answer.
	// So a process that reads a few keys and ends does not read the whole index.
	hashSample = 1<<8 - 1
	// hashSmall is the number of buckets up to which each such read wakes it.
	hashSmall = 1 << 10
)

// hashFollows makes the entry of e follow the tree in a bucket that is held.
func (db *DB) hashFollows(e *entry, l *hashindex.Hold) {
	var now btree.Ref
	if e.kind == record.KindPut {
		now = e.ref()
	}
	l.Set(e.hash, uint64(e.was), uint64(now))
	if l.Crowded() {
		db.hashCrowded()
	}
}

// hashAhead is how many buckets are prefetched while entries follow.
const hashAhead = 8

// hashFollow makes the table follow a transaction that is shown at one instant. No reader may use
// the table meanwhile.
func (db *DB) hashFollow(es []entry) {
	x := &db.hash.index
	left := db.hash.left
	db.hash.left = left[:0]
	if !x.On() || db.off(ruleI21) {
		return
	}
	for i := range left {
		l := x.LockCounted(left[i].hash)
		l.Set(left[i].hash, uint64(left[i].ref), 0)
		l.Unlock()
	}
	for i := range es {
		if es[i].hash = x.Hash(es[i].key); i < hashAhead {
			x.Ask(es[i].hash)
		}
	}
	for i := range es {
		if ahead := i + hashAhead; ahead < len(es) {
			x.Ask(es[ahead].hash)
		}
		if e := &es[i]; e.kind != record.KindRange {
			l := x.LockCounted(e.hash)
			db.hashFollows(e, &l)
			l.Unlock()
		}
	}
}

// hashLeft notes a key that left the tree by a range.
func (db *DB) hashLeft(key []byte, x btree.Ref) {
	if h, on := db.hashOf(key); on {
		db.hash.left = append(db.hash.left, leftKey{h, x})
	}
}

// hashRemove calls remove, which removes one key from the published tree and returns its reference,
// and lets the table follow.
func (db *DB) hashRemove(key []byte, remove func() (btree.Ref, error)) (btree.Ref, error) {
	h, _ := db.hashOf(key)
	l := db.hash.index.Lock(h)
	old, err := remove()
	if err == nil {
		if !db.off(ruleI21) {
			l.Set(h, uint64(old), 0)
		}
		l.Unlock()
	}
	return old, err
}
