package kv

import (
	"bytes"
	"sync"

	"nvkv/kv/internal/btree"
	"nvkv/kv/internal/record"
)

// scanner walks the records of a snapshot in chunks. The guard against faults and the counting of
// the call cost once per chunk, not once per record. The first chunk is small, so a short scan does
// not read far beyond its end.
type scanner struct {
	tx       *Tx
	c        btree.Cursor // in the leaf whose records are being prefetched
	ahead    btree.Ahead
	slabs    slabReader
	left     bytesLeft
	backward bool
	size     int    // of the next chunk, in records
	from     []byte // where the walk began; later the last key that it met
	n        int    // number of filled items
	done     bool
	items    [chunkMost]record.Plain
	expiry   [chunkMost]int64 // of the items, in Unix nanoseconds; 0: never
}

const (
	chunkFirst = 8
	chunkMost  = 64

	// chunkMapped is the number of records of a chunk on a mapped device. The records of the next
	// chunk are prefetched while the caller works on this one.
	chunkMapped = 16
)

var scannerPool = sync.Pool{New: func() any { return new(scanner) }}

// newScanner returns a scanner from the pool that begins at from. A nil from is the end of the
// store at which the walk begins. The caller releases it.
func newScanner(tx *Tx, from []byte, backward bool) *scanner {
	s := scannerPool.Get().(*scanner)
	s.tx, s.backward, s.size, s.from, s.done = tx, backward, chunkFirst, from, false
	s.c = btree.NewCursor(&tx.db.ix, false)
	s.slabs.reset(tx.db)
	return s
}

// scanRecords calls yield for the records of [start, end) in order, at most most of them, until
// yield returns false. The Tx is read-only.
func (tx *Tx) scanRecords(start, end []byte, backward bool, most int, yield func(k, v []byte) bool) error {
	from := start
	if backward {
		from, end = end, start
	}
	s := newScanner(tx, from, backward)
	defer s.release()
	err := s.begin()
	for err == nil && !s.done && most > 0 {
		err = s.fill()
		n := min(s.within(end), most)
		most -= n
		share := (s.size*atOnce + s.n - 1) / max(s.n, 1)
		for i := range s.items[:n] {
			if i%atOnce == 0 {
				s.ahead.Ask(share) // the medium works while the caller does
			}
			if !yield(s.items[i].Key, s.items[i].Value) {
				return nil
			}
			if tx.over() { // yield ended it: the rest of the chunk may be freed
				return ErrTxClosed
			}
		}
		if n < s.n {
			return nil
		}
	}
	return err
}

// within returns how many of the items come before the end of the walk. A backward walk includes
// the key end.
func (s *scanner) within(end []byte) int {
	n := s.n
	for n > 0 && !s.before(s.items[n-1].Key, end) {
		n--
	}
	return n
}

func (s *scanner) before(key, end []byte) bool {
	if s.backward {
		return bytes.Compare(key, end) >= 0
	}
	return inside(key, end)
}

// release returns the scanner to the pool without references to the store.
func (s *scanner) release() {
	clear(s.items[:])
	s.tx, s.c, s.from = nil, btree.Cursor{}, nil
	s.ahead.Reset(nil, nil, 0)
	s.slabs.reset(nil)
	scannerPool.Put(s)
}

// begin moves to the first record.
func (s *scanner) begin() (err error) {
	in, err := s.tx.enter()
	if err != nil {
		return err
	}
	defer s.tx.leave(in)
	db := s.tx.db
	defer db.guarded("seek", panicOnFault(true), &err)
	s.left = db.bytesLeft()
	if err := s.standAt(&s.c); err != nil {
		return err
	}
	step := 1
	if s.backward {
		step = -1
	}
	s.ahead.Reset(&db.ix, s, step)
	if s.done = !s.c.Valid(); !s.done {
		s.ahead.EnterCursor(&s.c)
	}
	return nil
}

// standAt moves c to the first key not below s.from or, in a backward walk, to the last key below
// it. A nil s.from is the end of the store at which the walk begins.
func (s *scanner) standAt(c *btree.Cursor) error {
	root := s.tx.root
	if s.from == nil {
		if s.backward {
			return c.Last(root)
		}
		return c.First(root)
	}
	if _, err := c.Seek(root, s.from); err != nil || !s.backward {
		return err
	}
	if !c.Valid() {
		return c.Last(root)
	}
	return c.Prev()
}

// NextLeaf implements the walk for btree.Ahead.
func (s *scanner) NextLeaf(a *btree.Ahead) (bool, error) {
	var err error
	if s.backward {
		err = s.c.PrevLeaf()
	} else {
		err = s.c.NextLeaf()
	}
	if err != nil || !s.c.Valid() {
		return false, err
	}
	a.EnterCursor(&s.c)
	return true, nil
}

// fill reads the next chunk. After an error the items before it are valid.
func (s *scanner) fill() (err error) {
	s.n = 0
	s.tx.db.readRoom()
	in, err := s.tx.enter()
	if err != nil {
		return err
	}
	defer s.tx.leave(in)
	db := s.tx.db
	defer db.guarded("scan", panicOnFault(true), &err)
	s.ahead.Renew(&s.c)
	size := s.size
	s.size = db.chunkAfter(size)
	for more := true; more && s.n < size; {
		want := size - s.n
		if !db.ix.Mapped() {
			want = max(atOnce+btree.LookAhead, want)
		}
		xs := s.ahead.Peek(min(atOnce, size-s.n), want)
		if len(xs) == 0 {
			s.done = true
			return s.ahead.Err()
		}
		if len(xs) == atOnce && s.takeFour((*[atOnce]btree.Ref)(xs)) {
			continue
		}
		if more, err = s.take(xs[0]); err != nil {
			return err
		}
		s.ahead.Skip(1)
	}
	s.ahead.Width(s.slabs.slot)
	s.ahead.Hold(s.size)
	return nil
}

// chunkAfter returns the number of records of the chunk after one of size.
func (db *DB) chunkAfter(size int) int {
	if db.ix.Mapped() {
		return chunkMapped
	}
	return min(2*size, chunkMost) // records are read together, more of them the longer the walk
}

// takeFour reads four records at once if all are plain.
func (s *scanner) takeFour(xs *[atOnce]btree.Ref) bool {
	var bodies [atOnce][]byte
	var keys [atOnce]int
	if !s.slabs.four(xs, &bodies, &keys) {
		return false
	}
	items := (*[atOnce]record.Plain)(s.items[s.n:])
	for i, b := range bodies {
		items[i] = record.SplitBody(b, keys[i])
	}
	*(*[atOnce]int64)(s.expiry[s.n:]) = [atOnce]int64{}
	s.n += atOnce
	s.from = s.items[s.n-1].Key
	s.ahead.Skip(atOnce)
	return true
}

// take reads a record, unless it has expired. It returns false after a large one: a chunk holds at
// most one copy of such a record.
func (s *scanner) take(x btree.Ref) (more bool, err error) {
	if p := &s.items[s.n]; x&(btree.RefSpill|btree.RefTTL) == 0 && s.tx.db.readPlain(btree.RefOff(x), p) {
		s.expiry[s.n] = 0
		s.from = p.Key
		s.n++
		return true, nil
	}
	return s.takeOther(x)
}

func (s *scanner) takeOther(x btree.Ref) (more bool, err error) {
	db := s.tx.db
	var rec record.Record
	if err := db.readNamed(x, &rec); err != nil {
		return false, s.named(x, err)
	}
	if rec.Expired(s.tx.at) {
		return true, nil
	}
	p := &s.items[s.n]
	p.Key, p.Value, s.expiry[s.n] = rec.Key, rec.Value, rec.Expiry
	if rec.Spilled() {
		if err := s.left.of(&rec); err != nil {
			return false, s.named(x, err)
		}
		if p.Key, p.Value, err = db.content(&rec); err != nil {
			return false, s.named(x, err)
		}
	}
	s.from = p.Key
	s.n++
	return !rec.Spilled(), nil
}

// named adds the key to an error about the record at x. It searches the leaf again for the key,
// because the walk may have passed it.
func (s *scanner) named(x btree.Ref, err error) error {
	e, ok := err.(*CorruptError)
	if !ok || e.Key != nil {
		return err
	}
	c := btree.NewCursor(&s.tx.db.ix, false)
	lost := s.standAt(&c)
	for lost == nil && c.Valid() && c.Ref() != x {
		if s.backward {
			lost = c.Prev()
		} else {
			lost = c.Next()
		}
	}
	if lost == nil && c.Valid() {
		e.Key, _ = c.Key()
	}
	return err
}
