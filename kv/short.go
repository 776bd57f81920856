package kv

import (
	"math"
	"runtime"
	"sync"

	"nvkv/kv/internal/btree"
	"nvkv/kv/internal/record"
)

const (
	// shortMost is the largest number of records that a scan reads without a snapshot.
	shortMost = 256
	// shortBytesMax is the largest number of their bytes.
	shortBytesMax = 256 << 10
)

// shortScan is a scan of few records of the current state. It copies the records and then validates
// the pages that led to them.
type shortScan struct {
	trail btree.Trail
	ahead btree.Ahead
	slabs slabReader
	at    int64 // time by which records expire; read when one may
	n     int   // records
	items [shortMost]record.Plain
	buf   []byte // memory of the items
}

var shortPool = sync.Pool{New: func() any { return new(shortScan) }}

// Scan calls fn with up to n records of [start, end) in ascending order, until fn returns false. A
// nil start begins at the first key, a nil end is open, and a negative n means no limit. All
// records belong to one instant. Key and value are valid until fn returns, and fn must not write to
// them.
//
// A scan of up to 256 records and 256 KiB takes no lock and pins nothing, like a point read. It
// copies the records, checks that the pages on its path have not changed, and starts again if they
// have. fn is called afterwards and may make any call of the DB. A longer scan runs in a Tx, see
// [Tx.All].
func (db *DB) Scan(start, end []byte, n int, fn func(key, value []byte) bool) error {
	if n == 0 || emptyRange(start, end) {
		return db.readable()
	}
	if fn == nil {
		return errNil
	}
	if n > 0 && n <= shortMost {
		s := shortPool.Get().(*shortScan)
		defer s.release()
		if s.read(db, start, end, n) {
			for i := 0; i < s.n && fn(s.items[i].Key, s.items[i].Value); i++ {
			}
			return nil
		}
	}
	if n < 0 {
		n = math.MaxInt
	}
	return db.View(func(tx *Tx) error {
		return tx.scanRecords(start, end, false, n, fn)
	})
}

// readable returns why the store cannot be read, or nil.
func (db *DB) readable() error {
	if db.closed.Load() {
		return ErrClosed
	}
	return nil
}

// release returns the scan to the pool, without large memory.
func (s *shortScan) release() {
	if cap(s.buf) > 2*shortBytesMax { // append reserves more than it is asked for
		s.buf = nil
		clear(s.items[:])
	}
	s.trail.Reset(nil)
	s.ahead.Reset(nil, nil, 0)
	s.slabs.reset(nil)
	shortPool.Put(s)
}

// read fills s. It returns false if a snapshot must do it, which also reports damage.
func (s *shortScan) read(db *DB, start, end []byte, n int) (done bool) {
	db.readRoom()
	in, err := db.enter()
	if err != nil {
		return false
	}
	defer in.Leave()
	if db.interim.Load() != nil {
		return false
	}
	defer db.guarded("scan", panicOnFault(true), &err)
	for try := 0; try < optimistic; {
		shown := db.showing.Load()
		if shown&1 != 0 {
			if db.torn.Load() {
				return false
			}
			runtime.Gosched()
			continue
		}
		done, err := s.try(db, start, end, n)
		if err != btree.ErrChanged && s.trail.Stands() && db.showing.Load() == shown {
			return done && err == nil
		}
		if try++; try > 1 {
			runtime.Gosched()
		}
	}
	return false
}

// try makes one attempt. Its result counts only if the trail stands.
func (s *shortScan) try(db *DB, start, end []byte, n int) (done bool, err error) {
	s.n, s.at, s.buf = 0, 0, s.buf[:0]
	t, a := &s.trail, &s.ahead
	t.Reset(&db.ix)
	at, err := t.Seek(start)
	if err != nil {
		return false, err
	}
	a.Reset(&db.ix, t, 1)
	s.slabs.reset(db)
	a.EnterTrail(t, at, n)
	for s.n < n {
		xs := a.Peek(min(atOnce, n-s.n), n-s.n)
		if len(xs) == 0 {
			return a.Err() == nil, a.Err()
		}
		from := s.n
		if len(xs) == atOnce && s.takeFour((*[atOnce]btree.Ref)(xs)) {
			a.Skip(atOnce)
			a.Width(s.slabs.slot)
			if s.n == atOnce && end == nil && len(s.buf)/atOnce*n > shortBytesMax {
				return false, nil // all of them would be too large, as it seems
			}
		} else if took, err := s.take(db, xs[0]); !took {
			return false, err
		} else {
			a.Skip(1)
		}
		for ; from < s.n; from++ {
			if !inside(s.items[from].Key, end) {
				s.n = from
				return true, nil
			}
		}
	}
	return true, nil
}

// takeFour copies four records at once if all are plain and there is room.
func (s *shortScan) takeFour(xs *[atOnce]btree.Ref) bool {
	var bodies [atOnce][]byte
	var keys [atOnce]int
	if !s.slabs.four(xs, &bodies, &keys) {
		return false
	}
	items := (*[atOnce]record.Plain)(s.items[s.n:])
	for i, b := range bodies {
		from := len(s.buf)
		if from+len(b) > shortBytesMax {
			return false
		}
		s.buf = append(s.buf, b...)
		items[i] = record.SplitBody(s.buf[from:], keys[i])
	}
	s.n += atOnce
	return true
}

// take copies a record, unless it has expired. It returns false if a snapshot must read the record.
func (s *shortScan) take(db *DB, x btree.Ref) (bool, error) {
	o := btree.RefOff(x)
	c := db.r.RecordAt(o)
	b := db.bytesAt(o, c.Bytes)
	if x&btree.RefSpill != 0 || len(s.buf)+len(b) > shortBytesMax {
		return false, nil
	}
	from := len(s.buf)
	s.buf = append(s.buf, b...)
	b = s.buf[from:]
	if x&btree.RefTTL == 0 && s.items[s.n].Parse(b, db.seed, c.Carve, o) {
		s.n++
		return true, nil
	}
	var rec record.Record
	if b == nil || !rec.Parse(b) || !rec.Sealed(b, db.seed, c.Carve, o) || !isOf(&rec, x) {
		return false, &CorruptError{Off: uint64(o), Structure: "record"}
	}
	if s.at == 0 {
		s.at = db.now()
	}
	if rec.Expired(s.at) {
		s.buf = s.buf[:from]
		return true, nil
	}
	s.items[s.n] = record.Plain{Key: rec.Key, Value: rec.Value}
	s.n++
	return true, nil
}
