package kv

import (
	"runtime"
	"time"

	"nvkv/kv/internal/btree"
	"nvkv/kv/internal/hashindex"
)

// A goroutine of the store keeps the hash table: it makes a larger table when keys no longer fit, and
// it walks over the tree to add the keys that the table does not know, after an opening, after the
// table has grown, and after a range of keys left as whole pages. The walk takes no lock of the store
// and no snapshot: it reads leaves as a short scan does, and adds each key under I23.

const (
	// hashLeast is the number of buckets of the smallest table. A table grows before it has more
	// than hashFull keys for each bucket, and begins with half of that. One that cannot grow is
	// walked for as long as that leaves it some use.
	hashLeast = 64
	hashFull  = 5
	hashUse   = 8
)

// startHash makes the table and starts the goroutine. The tree must be whole.
func (db *DB) startHash() {
	g := &db.hash
	if g.most = int(db.opt.HashBytes / hashindex.BucketBytes); g.most <= 0 {
		return
	}
	g.wake, g.stop, g.exited = make(chan struct{}, 1), make(chan struct{}), make(chan struct{})
	if !db.hashResize() {
		return
	}
	if t := g.index.Table(); db.keys == 0 {
		t.Covered(t.Tag())
	}
	g.running = true
	go db.keepHash()
}

// stopHash stops the goroutine and gives the table up.
func (db *DB) stopHash() {
	g := &db.hash
	if g.running {
		g.running = false
		close(g.stop)
		<-g.exited
	}
	g.drop()
	db.pages.Wait()
	g.dropped.Release()
	g.dropped = nil
}

// drop gives the table up. It may be used until all sections have ended.
func (g *hashed) drop() {
	if t := g.index.Drop(); t != nil {
		g.dropped = t
	}
}

// wakeHash wakes the goroutine. It does not block.
func (db *DB) wakeHash() {
	select {
	case db.hash.wake <- struct{}{}:
	default:
	}
}

// hashCrowded wakes the goroutine if the table can grow.
func (db *DB) hashCrowded() {
	if t := db.hash.index.Table(); t != nil && t.Buckets() < db.hash.most {
		db.wakeHash()
	}
}

func (db *DB) keepHash() {
	g := &db.hash
	defer close(g.exited)
	var rest <-chan time.Time
	for {
		select {
		case <-g.stop:
			return
		case <-rest:
			rest = nil
		case <-g.wake:
		}
		if db.hashGrow() || rest == nil {
			began := time.Now()
			if db.hashWalk() {
				// Ranges may leave as fast as walks end. So that these take a small part of a CPU:
				rest = time.After(hashRest * time.Since(began))
			}
		}
	}
}

// hashRest is how many times as long as its walk the goroutine rests.
const hashRest = 8

// hashWanted returns how many buckets a table for so many keys has.
func (db *DB) hashWanted(keys int64) int {
	n := hashLeast
	for int64(n)*hashFull < keys && n < db.hash.most {
		n *= 2
	}
	return min(n, db.hash.most)
}

// hashGrow replaces the table if it has become too small. It says whether it did.
func (db *DB) hashGrow() (grew bool) {
	t := db.hash.index.Table()
	if t == nil || !t.Crowded() {
		return false
	}
	t.Uncrowd()
	if t.Buckets() >= db.hash.most {
		return false
	}
	end := db.standstill()
	db.publish.Lock()
	keys := db.keysShown()
	db.publish.Unlock()
	grew = keys > hashFull*int64(t.Buckets()) && db.failure.Load() == nil && db.hashResize()
	end()
	if grew {
		db.hash.stuck = 0
		db.pages.Wait() // for those who still look at the old table
		t.Release()
	}
	return grew
}

// hashResize makes a table of the size that the number of keys wants. No one may change the tree.
// It says whether there was memory for it.
func (db *DB) hashResize() bool {
	t, err := db.hash.index.New(db.hashWanted(db.keys))
	if err != nil {
		db.opt.Logger.Warn("making a hash table", "error", err)
		return false
	}
	db.hash.index.Install(t)
	return true
}

// hashWalk walks over the tree if the table is not covered. It says whether it did.
func (db *DB) hashWalk() bool {
	t := db.hash.index.Table()
	if t == nil || t.IsCovered() || !db.ix.Mapped() || db.hash.stuck == t.Tag() {
		return false
	}
	db.publish.Lock()
	keys := db.keysShown()
	db.publish.Unlock()
	if keys > hashUse*int64(t.Buckets()) {
		return false
	}
	w := hashWalker{db: db, tag: t.Tag()}
	for !w.done {
		select {
		case <-db.hash.stop:
			return true
		default:
		}
		if db.hash.index.Table() != t || t.Tag() != w.tag {
			db.wakeHash()
			return true
		}
		if w.step() != nil { // damage: what lies behind it is not known to the table
			db.hash.stuck = w.tag
			return true
		}
		if w.again > 0 && w.again%hashAgain == 0 { // the leaf changes all the time
			time.Sleep(time.Millisecond)
		}
		runtime.Gosched() // others may wait for this CPU
	}
	t.Covered(w.tag)
	return true
}

// hashAgain is how often the walk visits a leaf before it waits.
const hashAgain = 8

// hashWalker is a walk over the tree.
type hashWalker struct {
	db    *DB
	tag   uint32
	trail btree.Trail
	from  []byte // where the walk continues
	done  bool
	again int       // visits to the leaf that came to nothing
	found []leftKey // of the leaf
}

// step adds the keys of a leaf. Unless the leaf stands until all are added, the next step visits it
// again.
func (w *hashWalker) step() (err error) {
	db := w.db
	if db.hashReads() {
		return ErrFailed
	}
	s := db.pages.Begin()
	defer s.Leave()
	defer db.guarded("walk", panicOnFault(true), &err)
	shown := db.showing.Load()
	w.again++
	if shown&1 != 0 {
		return nil
	}
	t := &w.trail
	t.Reset(&db.ix)
	w.found = w.found[:0]
	at, err := t.Seek(w.from)
	if err == nil {
		err = t.Entries(at, func(key []byte, x btree.Ref) {
			w.found = append(w.found, leftKey{db.hash.index.Hash(key), x})
		})
	}
	var next []byte
	if err == nil {
		next, err = t.NextKey()
	}
	if err == btree.ErrChanged {
		return nil
	}
	if err != nil {
		return err
	}
	for i, f := range w.found {
		if ahead := i + hashAhead; ahead < len(w.found) {
			db.hash.index.Ask(w.found[ahead].hash)
		}
		l, ok := db.hash.index.TryLock(f.hash)
		if !ok {
			return nil
		}
		stands := t.Stands() && db.showing.Load() == shown || db.off(ruleI23)
		if stands {
			l.Add(f.hash, uint64(f.ref))
		}
		l.Unlock()
		if !stands {
			return nil
		}
	}
	w.from, w.done, w.again = next, next == nil, 0
	return nil
}

// hashReads says whether reads of the store fail.
func (db *DB) hashReads() bool { return db.torn.Load() || db.failure.Load() != nil }
