package kv

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"nvkv/kv/internal/btree"
	"nvkv/kv/internal/hashindex"
)

// inHash says whether the hash table has an entry with the print of key.
func inHash(db *DB, key string) bool {
	var l hashindex.Look
	x := &db.hash.index
	return x.On() && x.Look(x.Hash([]byte(key)), &l) && l.Next() != 0
}

// hashModel drives a store through random changes of every kind and compares all point reads with a
// map. It returns the first difference.
type hashModel struct {
	db    *DB
	path  string
	opt   Options
	rng   *rand.Rand
	now   time.Time
	keys  []string
	want  map[string]string
	dies  map[string]time.Time
	stamp int
	hits  int // reads of keys that the table had
}

// newHashModel opens a store with a table of a number of buckets; 0: the usual size.
func newHashModel(path string, buckets int64, seed uint64, off rules) *hashModel {
	m := &hashModel{path: path, rng: rand.New(rand.NewPCG(seed, 21)), now: time.Unix(1000, 0), want: map[string]string{}, dies: map[string]time.Time{}}
	for i := range 60 { // a leaf holds a few of these
		m.keys = append(m.keys, fmt.Sprintf("%03d", i)+strings.Repeat(".", 300+i%7*80))
	}
	m.opt = Options{SlabBytes: 4096, HashBytes: buckets * hashindex.BucketBytes, EvacuateBytes: NoEvacuation, privateFrom: 6,
		Clock: func() time.Time { return m.now }, broken: off}
	return m
}

func (m *hashModel) open() (err error) {
	m.db, err = Open(m.path, &m.opt)
	return err
}

// run makes n changes, with reads between them.
func (m *hashModel) run(n int) (err error) {
	defer rescue(&err)
	if err := m.open(); err != nil {
		return err
	}
	defer func() { err = firstErr(err, m.db.Close()) }()
	for i := range n {
		what, err := m.step()
		if err == nil {
			err = m.reads()
		}
		if err == nil && (i%25 == 24 || i == n-1) {
			err = clean(m.db)
		}
		if err != nil {
			return fmt.Errorf("step %d, %s: %w", i, what, err)
		}
	}
	return nil
}

func (m *hashModel) step() (string, error) {
	db, key := m.db, m.keys[m.rng.IntN(len(m.keys))]
	switch r := m.rng.IntN(100); {
	case r < 40:
		return "put", db.Put([]byte(key), m.put(key, 0))
	case r < 50:
		ttl := time.Duration(1+m.rng.IntN(5)) * time.Second
		return "expiring put", db.PutTTL([]byte(key), m.put(key, ttl), ttl)
	case r < 60:
		delete(m.want, key)
		return "delete", db.Delete([]byte(key))
	case r < 70:
		return "batch", db.Write(m.batch(2 + m.rng.IntN(3)))
	case r < 76:
		return "root swap", db.Write(m.batch(8 + m.rng.IntN(20)))
	case r < 80:
		from := m.rng.IntN(len(m.keys))
		to := min(from+1+m.rng.IntN(30), len(m.keys)-1)
		for _, k := range m.keys[from:max(from, to)] {
			delete(m.want, k)
		}
		return "range", db.DeleteRange([]byte(m.keys[from]), []byte(m.keys[to]))
	case r < 84:
		return "transaction", db.Update(func(tx *Tx) error {
			for range 3 {
				k := m.keys[m.rng.IntN(len(m.keys))]
				if err := m.readsOf(tx, k); err != nil {
					return err
				}
				if err := tx.Put([]byte(k), m.put(k, 0)); err != nil {
					return err
				}
			}
			return nil
		})
	case r < 90:
		m.now = m.now.Add(time.Second)
		for k, at := range m.dies {
			if !at.After(m.now) {
				delete(m.want, k)
				delete(m.dies, k)
			}
		}
		return "expiry", nil
	case r < 93:
		return "checkpoint", db.Checkpoint(context.Background()) // which collects
	case r < 95:
		return "compaction", db.Compact(context.Background())
	case r < 97:
		if err := db.Close(); err != nil {
			return "close", err
		}
		return "reopening", m.open()
	}
	return "walk", m.walk()
}

// walk covers the table.
func (m *hashModel) walk() error {
	if t := m.db.hash.index.Table(); t != nil && m.db.ix.Mapped() {
		for w := (hashWalker{db: m.db, tag: t.Tag()}); ; {
			if err := w.step(); err != nil {
				return err
			}
			if w.done {
				t.Covered(w.tag)
				return nil
			}
		}
	}
	return nil
}

// put notes a new value of key and returns it. Some lie in runs.
func (m *hashModel) put(key string, ttl time.Duration) []byte {
	m.stamp++
	v := fmt.Sprint(m.stamp)
	if m.stamp%11 == 0 {
		v += strings.Repeat("v", 3000)
	}
	m.want[key] = v
	delete(m.dies, key)
	if ttl > 0 {
		m.dies[key] = m.now.Add(ttl)
	}
	return []byte(v)
}

func (m *hashModel) batch(n int) *Batch {
	b := m.db.NewBatch()
	for range n {
		k := m.keys[m.rng.IntN(len(m.keys))]
		if m.rng.IntN(4) == 0 {
			delete(m.want, k)
			b.Delete([]byte(k))
		} else {
			b.Put([]byte(k), m.put(k, 0))
		}
	}
	return b
}

// reads compares some point reads with the map, each twice: what the tree answers first the table
// may answer then.
func (m *hashModel) reads() error {
	var keys [][]byte
	for range 8 {
		k := m.keys[m.rng.IntN(len(m.keys))]
		keys = append(keys, []byte(k))
		for range 2 {
			if inHash(m.db, k) {
				m.hits++
			}
			v, err := m.db.Get([]byte(k))
			has, hasErr := m.db.Has([]byte(k))
			if err := m.compare("Get", k, v, err, has, hasErr); err != nil {
				return err
			}
		}
		if err := m.db.View(func(tx *Tx) error { return m.readsOf(tx, k) }); err != nil {
			return err
		}
	}
	var wrong error
	err := m.db.GetMany(keys, func(i int, v []byte, err error) bool {
		wrong = m.compare("GetMany", string(keys[i]), v, err, err == nil, nil)
		return wrong == nil
	})
	return firstErr(wrong, err)
}

func (m *hashModel) readsOf(tx *Tx, k string) error {
	v, err := tx.Get([]byte(k))
	has, hasErr := tx.Has([]byte(k))
	return m.compare("Tx.Get", k, v, err, has, hasErr)
}

func (m *hashModel) compare(call, k string, v []byte, err error, has bool, hasErr error) error {
	want, there := m.want[k]
	switch {
	case hasErr != nil || err != nil && !errors.Is(err, ErrNotFound):
		return fmt.Errorf("%s(%.3s): %v, %v", call, k, err, hasErr)
	case has != there || there != (err == nil) || there && string(v) != want:
		return fmt.Errorf("%s(%.3s) is %.12q, %v; Has %v; it should be %.12q, %v", call, k, v, err, has, want, there)
	}
	return nil
}

// I21: in a table of any size the entries follow each kind of change, so reads that the table
// answers are what the tree answers.
func TestI21_EntriesFollowTheTree(t *testing.T) {
	t.Parallel()
	for _, buckets := range []int64{1, 64, 0} {
		for _, off := range withWithout(ruleI21) {
			t.Run(fmt.Sprintf("%d buckets, off %d", buckets, off), func(t *testing.T) {
				var err error
				for seed := range uint64(3) {
					m := newHashModel(filepath.Join(testDir(t), "s"), buckets, seed, off)
					err = firstErr(err, m.run(250))
					if off == 0 && m.hits < 500 {
						t.Errorf("the table had %d keys that were read", m.hits)
					}
				}
				if off != 0 {
					noticed(t, err)
				} else {
					must(t, err)
				}
			})
		}
	}
}

// hashed returns a store with a key whose entry is in the table.
func hashedStore(t *testing.T, o *Options, off rules) *DB {
	t.Helper()
	o.SlabBytes, o.EvacuateBytes, o.broken = 4096, NoEvacuation, off
	db := openTest(t, filepath.Join(testDir(t), "s"), o)
	must(t, db.Put([]byte("a"), []byte("1")))
	if !inHash(db, "a") {
		t.Fatal("a put did not enter the table")
	}
	return db
}

// I22: a read meets the record of its key, and the slot is reused before it has copied the value.
// The clock, which a read asks in between, is where the others write.
func TestI22_OnlyALookThatStandsCounts(t *testing.T) {
	skipInRace(t) // there readers exclude writers
	for _, off := range withWithout(ruleI22) {
		var meanwhile func()
		o := &Options{Clock: func() time.Time {
			if f := meanwhile; f != nil {
				meanwhile = nil
				done := make(chan struct{})
				go func() { f(); close(done) }()
				<-done
			}
			return time.Unix(1000, 0)
		}}
		db := hashedStore(t, o, off)
		must(t, db.PutTTL([]byte("a"), []byte("1"), time.Hour))
		before := slotOf(t, db, "a")
		meanwhile = func() {
			must(t, db.Put([]byte("a"), []byte("2")))
			for i := range 5000 { // until the slot is reused
				k := fmt.Sprint(i % 5)
				must(t, db.PutTTL([]byte(k), []byte("x"), time.Hour))
				if btree.RefOff(slotOf(t, db, k)) == btree.RefOff(before) {
					return
				}
			}
			t.Error("the slot was not reused")
		}
		v, err := db.Get([]byte("a"))
		if err == nil && string(v) != "1" && string(v) != "2" {
			err = fmt.Errorf("the value is %q", v)
		}
		if off != 0 {
			noticed(t, err)
			continue
		}
		must(t, err)
	}
}

// I23: a read finds a key in the tree, the key is written, and then the read adds what it found.
func TestI23_OnlyWhatStandsIsAdded(t *testing.T) {
	for _, off := range withWithout(ruleI23) {
		db := hashedStore(t, &Options{}, off)
		h, _ := db.hashOf([]byte("a"))
		shown := db.showing.Load()
		var hit btree.Hit
		if db.ix.Lookup([]byte("a"), &hit) != btree.Found {
			t.Fatal("the key is there")
		}
		must(t, db.Delete([]byte("a")))
		db.hashFound(h, &hit, shown)
		v, err := db.Get([]byte("a"))
		if err == nil {
			err = fmt.Errorf("a deleted key has the value %q", v)
		} else if errors.Is(err, ErrNotFound) {
			err = nil
		}
		if off == 0 {
			must(t, err)
			continue
		}
		noticed(t, firstErr(err, clean(db)))
		abandonFile(t, db)
	}
}

// I24: after an opening the table is empty, and no bucket shows that a key is absent until a walk has
// ended. A bucket that has lost an entry never does.
func TestI24_OnlyACompleteBucketShowsAbsence(t *testing.T) {
	for _, off := range withWithout(ruleI24) {
		db := hashedStore(t, &Options{HashBytes: hashindex.BucketBytes}, off) // one bucket
		err := firstErr(
			func() error {
				for i := range 3 * hashindex.Entries {
					if err := db.Put(fmt.Append(nil, "k", i), []byte("1")); err != nil {
						return err
					}
				}
				for i := range 3 * hashindex.Entries {
					if _, err := db.Get(fmt.Append(nil, "k", i)); err != nil {
						return fmt.Errorf("a key that did not fit: %w", err)
					}
				}
				return nil
			}(),
			func() error {
				m := &hashModel{db: db}
				if err := m.walk(); err != nil {
					return err
				}
				_, err := db.Get([]byte("k0"))
				return err
			}())
		if off == 0 {
			must(t, err)
			continue
		}
		noticed(t, err)
	}
}

// I25: an older Tx does not see what the table has of newer states.
func TestI25_AnOlderTxReadsItsTree(t *testing.T) {
	for _, off := range withWithout(ruleI25) {
		db := hashedStore(t, &Options{}, off)
		tx, err := db.Begin(false)
		must(t, err)
		must(t, db.Put([]byte("a"), []byte("2")))
		must(t, db.Put([]byte("b"), []byte("2")))
		err = nil
		if v, e := tx.Get([]byte("a")); e != nil || string(v) != "1" {
			err = fmt.Errorf("Tx.Get is %q, %v", v, e)
		}
		if has, e := tx.Has([]byte("b")); e != nil || has {
			err = firstErr(err, fmt.Errorf("Tx.Has is %v, %v", has, e))
		}
		err = firstErr(err, tx.GetMany([][]byte{[]byte("a")}, func(_ int, v []byte, e error) bool {
			if e != nil || string(v) != "1" {
				err = firstErr(err, fmt.Errorf("GetMany is %q, %v", v, e))
			}
			return true
		}))
		must(t, tx.Rollback())
		if off == 0 {
			must(t, err)
			continue
		}
		noticed(t, err)
	}
}

// Check names an entry that has not followed the tree, and a key that a complete bucket does not have.
func TestCheckComparesTheHashTable(t *testing.T) {
	for name, spoil := range map[string]func(db *DB, h uint64, ref btree.Ref){
		"the index does not have the key": func(db *DB, h uint64, ref btree.Ref) {
			must(t, db.Delete([]byte("a")))
			l := db.hash.index.Lock(h)
			l.Set(h, 0, uint64(ref))
			l.Unlock()
		},
		"the index names another": func(db *DB, h uint64, ref btree.Ref) {
			must(t, db.Put([]byte("a"), []byte("2")))
			l := db.hash.index.Lock(h)
			l.Set(h, uint64(slotOf(t, db, "a")), uint64(ref))
			l.Unlock()
		},
		"the record of another key": func(db *DB, h uint64, ref btree.Ref) {
			must(t, db.Put([]byte("b"), []byte("2")))
			l := db.hash.index.Lock(h)
			l.Set(h, uint64(ref), uint64(slotOf(t, db, "b")))
			l.Unlock()
		},
		"a slot that the index does not reach": func(db *DB, h uint64, ref btree.Ref) {
			l := db.hash.index.Lock(h)
			l.Set(h, uint64(ref), 1<<40)
			l.Unlock()
		},
		"is complete and does not have it": func(db *DB, h uint64, ref btree.Ref) {
			l := db.hash.index.Lock(h)
			l.Set(h, uint64(ref), 0)
			l.Unlock()
		},
	} {
		t.Run(name, func(t *testing.T) {
			db := hashedStore(t, &Options{}, 0)
			mustCheck(t, db)
			h, _ := db.hashOf([]byte("a"))
			spoil(db, h, slotOf(t, db, "a"))
			if err := clean(db); err == nil || !strings.Contains(err.Error(), name) {
				t.Errorf("Check found %v", err)
			}
			abandonFile(t, db)
		})
	}
}

// A table grows with the keys up to its bound, and after each growth and opening a walk covers it:
// then reads of absent keys are answered by it too. The walk does not hold up a writer.
func TestHashGrowsAndIsCovered(t *testing.T) {
	const keys = 20 * hashLeast * hashFull
	path := filepath.Join(testDir(t), "s")
	db := openTest(t, path, &Options{HashBytes: 16 * hashLeast * hashindex.BucketBytes})
	key := func(i int) []byte { return fmt.Append(nil, "key", i) }
	covered := func() {
		t.Helper()
		for i := 0; !db.hash.index.Table().IsCovered(); i++ {
			must(t, db.Put(key(i%keys), []byte("2")))
			if _, err := db.Get(key(i % keys)); err != nil {
				t.Fatal(err)
			}
			// What is there may be found for ever without a walk; one of some 256 keys that are not
			// wakes it.
			_, err := db.Get(key(keys + i))
			wantErr(t, "Get", err, ErrNotFound)
		}
	}
	for i := range keys {
		must(t, db.Put(key(i), []byte("1")))
	}
	for db.hash.index.Bytes() < 16*hashLeast*hashindex.BucketBytes {
		must(t, db.Delete(key(0)))
		must(t, db.Put(key(0), []byte("1")))
	}
	covered()
	mustCheck(t, db)
	if n := db.Metrics().HashBytes; n != 16*hashLeast*hashindex.BucketBytes {
		t.Errorf("Metrics: %d bytes", n)
	}
	must(t, db.DeleteRange(key(5), key(6))) // whole pages leave
	covered()
	must(t, db.Close())
	db = openTest(t, path, nil)
	if db.hash.index.Table().IsCovered() {
		t.Error("covered before any walk")
	}
	if _, err := db.Get(key(1)); err != nil && !bytes.HasPrefix(key(1), key(5)) {
		t.Error(err)
	}
	covered()
	mustCheck(t, db)
}

// Without a table everything works as well.
func TestNoHash(t *testing.T) {
	m := newHashModel(filepath.Join(testDir(t), "s"), 0, 1, 0)
	m.opt.HashBytes = NoHash
	must(t, m.run(60))
	if m.hits != 0 {
		t.Errorf("a table had %d keys", m.hits)
	}
}
