package kv

import (
	"bytes"
	"sync"
)

// scanner walks the records of a snapshot in chunks: what guards against faults
// and counts the call in is paid for once a chunk and not once a record.
// Chunks grow, so that a short scan does not read far beyond its end.
type scanner struct {
	tx       *Tx
	c        cursor // stands in the leaf whose records are asked for
	ahead    ahead
	slabs    slabReader
	backward bool
	size     int    // of the next chunk
	from     []byte // where the walk began, then the last key that was met
	n        int    // items that are filled
	done     bool
	items    [chunkMost]plain
	expiry   [chunkMost]int64 // of the items, Unix nanoseconds, 0: never
}

const (
	chunkFirst = 8
	chunkMost  = 64
)

var scannerPool = sync.Pool{New: func() any { return new(scanner) }}

// newScanner returns a scanner from the pool that begins at from; a nil from is
// the end that it comes from. The caller releases it.
func newScanner(tx *Tx, from []byte, backward bool) *scanner {
	s := scannerPool.Get().(*scanner)
	s.tx, s.backward, s.size, s.from, s.done = tx, backward, chunkFirst, from, false
	s.c = cursor{ix: &tx.db.ix}
	s.slabs.reset(tx.db)
	return s
}

// scanRecords calls yield for the records of [start, end) in order, most of them
// at most, until it returns false. The Tx is read-only.
func (tx *Tx) scanRecords(start, end []byte, backward bool, most int, yield func(k, v []byte) bool) {
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
		for i := range s.items[:n] {
			if i%atOnce == 0 {
				s.ahead.ask(atOnce) // the medium works while the caller does
			}
			if !yield(s.items[i].key, s.items[i].value) {
				return
			}
			if tx.ended { // inside yield: what the rest of the chunk names may be gone
				tx.met(ErrTxClosed)
				return
			}
		}
		if n < s.n {
			return
		}
	}
	tx.met(err)
}

// within returns how many of the items come before the end of the walk: the key
// end, which belongs to it if the walk goes backward.
func (s *scanner) within(end []byte) int {
	n := s.n
	for n > 0 && !s.before(s.items[n-1].key, end) {
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

// release gives the scanner back without anything that it led to.
func (s *scanner) release() {
	clear(s.items[:])
	s.tx, s.c, s.from = nil, cursor{}, nil
	s.ahead.reset(nil, nil, 0)
	s.slabs.reset(nil)
	scannerPool.Put(s)
}

// begin stands on the first record.
func (s *scanner) begin() (err error) {
	in, err := s.tx.enter()
	if err != nil {
		return err
	}
	defer s.tx.leave(in)
	db := s.tx.db
	defer db.guarded("seek", panicOnFault(true), &err)
	if err := s.standAt(&s.c); err != nil {
		return err
	}
	step := 1
	if s.backward {
		step = -1
	}
	s.ahead.reset(&db.ix, s, step)
	if s.done = !s.c.valid; !s.done {
		s.enterLeaf(&s.ahead)
	}
	return nil
}

// standAt makes c stand on the first key from s.from on, on the last one below
// it where the walk goes backward. A nil s.from is the end that the walk
// begins at.
func (s *scanner) standAt(c *cursor) error {
	root := s.tx.root
	if s.from == nil {
		if s.backward {
			return c.last(root)
		}
		return c.first(root)
	}
	if _, err := c.seek(root, s.from); err != nil || !s.backward {
		return err
	}
	if !c.valid {
		return c.last(root)
	}
	return c.prev()
}

// nextLeaf is for ahead.
func (s *scanner) nextLeaf(a *ahead) (bool, error) {
	var err error
	if s.backward {
		err = s.c.prevLeaf()
	} else {
		err = s.c.nextLeaf()
	}
	if err != nil || !s.c.valid {
		return false, err
	}
	s.enterLeaf(a)
	return true, nil
}

func (s *scanner) enterLeaf(a *ahead) {
	s.c.askBeside(a.step)
	a.enter(s.c.vals, s.c.at(), s.c.n)
}

// fill reads the next chunk. On an error the items before it are good.
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
	s.c.renew()
	s.ahead.vals = s.c.vals
	size := s.size
	s.size = min(2*size, chunkMost)
	for more := true; more && s.n < size; {
		xs := s.ahead.peek(min(atOnce, size-s.n), max(atOnce+lookAhead, size-s.n))
		if len(xs) == 0 {
			s.done = true
			return s.ahead.err
		}
		if len(xs) == atOnce && s.takeFour((*[atOnce]ref)(xs)) {
			continue
		}
		if more, err = s.take(xs[0]); err != nil {
			return err
		}
		s.ahead.skip(1)
	}
	s.ahead.hold(s.size)
	return nil
}

// takeFour reads four records at once if they are plain.
func (s *scanner) takeFour(xs *[atOnce]ref) bool {
	var bodies [atOnce][]byte
	var keys [atOnce]int
	if !s.slabs.four(xs, &bodies, &keys) {
		return false
	}
	items := (*[atOnce]plain)(s.items[s.n:])
	for i, b := range bodies {
		items[i] = splitBody(b, keys[i])
	}
	*(*[atOnce]int64)(s.expiry[s.n:]) = [atOnce]int64{}
	s.n += atOnce
	s.from = s.items[s.n-1].key
	s.ahead.skip(atOnce)
	return true
}

// take reads a record, if it has not expired. It returns false behind a large
// one: a chunk holds one copy of such at most.
func (s *scanner) take(x ref) (more bool, err error) {
	if p := &s.items[s.n]; x&(refSpill|refTTL) == 0 && s.tx.db.readPlain(refOff(x), p) {
		s.expiry[s.n] = 0
		s.from = p.key
		s.n++
		return true, nil
	}
	return s.takeOther(x)
}

func (s *scanner) takeOther(x ref) (more bool, err error) {
	db := s.tx.db
	var rec record
	if err := db.readRecord(refOff(x), &rec); err != nil {
		return false, s.named(x, err)
	}
	if rec.expired(s.tx.at) {
		return true, nil
	}
	p := &s.items[s.n]
	p.key, p.value, s.expiry[s.n] = rec.key, rec.value, rec.expiry
	if rec.spilled() {
		if p.key, p.value, err = db.content(&rec); err != nil {
			return false, s.named(x, err)
		}
	}
	s.from = p.key
	s.n++
	return !rec.spilled(), nil
}

// named adds the key to an error about the record that x names. The leaf has
// it, and is looked for again: the walk may be past it.
func (s *scanner) named(x ref, err error) error {
	e, ok := err.(*CorruptError)
	if !ok || e.Key != nil {
		return err
	}
	c := cursor{ix: s.c.ix}
	lost := s.standAt(&c)
	for lost == nil && c.valid && c.ref() != x {
		if s.backward {
			lost = c.prev()
		} else {
			lost = c.next()
		}
	}
	if lost == nil && c.valid {
		e.Key, _, _ = c.ix.fullKey(c.leaf, pageCount(c.leaf), c.at())
	}
	return err
}
