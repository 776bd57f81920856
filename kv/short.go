package kv

import (
	"math"
	"runtime"
	"sync"

	"nvkv/kv/internal/btree"
	"nvkv/kv/internal/record"
)

const (
	// shortMost is how many records a scan reads without a snapshot.
	shortMost = 256
	// shortBytesMax is how many bytes of them.
	shortBytesMax = 256 << 10
)

// shortScan is a scan of few records of the current state: copies, which the
// pages that led to them have vouched for.
type shortScan struct {
	trail btree.Trail
	ahead btree.Ahead
	slabs slabReader
	at    int64 // wall clock by which records expire, once one may
	n     int   // records
	items [shortMost]record.Plain
	buf   []byte // what they alias
}

var shortPool = sync.Pool{New: func() any { return new(shortScan) }}

// Scan calls fn with up to n records of [start, end) in ascending order until it
// returns false. A nil start begins at the first key, a nil end is open, a
// negative n sets no bound. All records belong to one instant. Key and value are
// valid until fn returns and must not be written.
//
// A scan of up to 256 records and 256 KiB takes no lock and keeps nothing from
// being freed, as a point read does: it copies the records, looks whether what
// led to them is still as it was, and tries again if not. fn is called then and
// may use the DB as it likes. A longer scan is that of a Tx, see [Tx.All].
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
		tx.scanRecords(start, end, false, n, fn)
		return tx.Err()
	})
}

// readable returns why the store cannot be read, or nil.
func (db *DB) readable() error {
	if db.closed.Load() {
		return ErrClosed
	}
	return nil
}

// release gives the scan back, without much memory.
func (s *shortScan) release() {
	if cap(s.buf) > shortBytesMax {
		s.buf = nil
		clear(s.items[:])
	}
	s.trail.Reset(nil)
	s.ahead.Reset(nil, nil, 0)
	s.slabs.reset(nil)
	shortPool.Put(s)
}

// read fills s, or returns false where a snapshot must do it, which is also who
// finds words for what is damaged.
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

// try is one attempt. What it returns counts only if the trail stands.
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

// takeFour copies four records at once if they are plain and there is room.
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

// take copies a record, if it has not expired. It returns false where a
// snapshot must read it.
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
