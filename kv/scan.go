package kv

import (
	"bytes"
	"sync"
)

// scanner walks the records of a snapshot in chunks: it asks for all of a chunk
// at once, so that records in random order on the medium cost one wait
// together, and pays for guarding against faults and for counting the call in
// once a chunk and not once a record. Chunks grow, so that a short scan does
// not read far beyond its end.
type scanner struct {
	tx       *Tx
	c        cursor
	backward bool
	size     int // of the next chunk
	asked    int // entries of this leaf that are asked for, counted from its begin or end
	n        int // items that are filled
	done     bool
	items    [chunkMost]item
}

type item struct {
	key, value []byte
	expiry     int64 // Unix nanoseconds, 0: never
}

const (
	chunkFirst = 8
	chunkMost  = 32
)

var scannerPool = sync.Pool{New: func() any { return new(scanner) }}

// newScanner returns a scanner from the pool; the caller releases it.
func newScanner(tx *Tx, backward bool) *scanner {
	s := scannerPool.Get().(*scanner)
	s.tx, s.backward, s.size, s.asked, s.done = tx, backward, chunkFirst, 0, false
	s.c = cursor{ix: &tx.db.ix}
	return s
}

func (s *scanner) release() {
	clear(s.items[:])
	s.c, s.tx = cursor{}, nil
	scannerPool.Put(s)
}

// scanRecords calls yield for the records of [start, end) in order until it
// returns false. The Tx is read-only.
func (tx *Tx) scanRecords(start, end []byte, backward bool, yield func(k, v []byte) bool) {
	s := newScanner(tx, backward)
	defer s.release()
	from := start
	if backward {
		from = end
	}
	err := s.begin(from)
	for err == nil && !s.done {
		err = s.fill()
		for i := range s.n {
			it := &s.items[i]
			if backward && bytes.Compare(it.key, start) < 0 || !backward && !inside(it.key, end) || !yield(it.key, it.value) {
				return
			}
			if tx.ended { // inside yield: what the rest of the chunk names may be gone
				tx.met(ErrTxClosed)
				return
			}
		}
	}
	tx.met(err)
}

// begin stands on the first record.
func (s *scanner) begin(from []byte) (err error) {
	in, err := s.tx.enter()
	if err != nil {
		return err
	}
	defer s.tx.leave(in)
	db := s.tx.db
	defer db.guarded("seek", panicOnFault(true), &err)
	db.rlockReaders()
	defer db.runlockReaders()
	c, root := &s.c, s.tx.root
	switch {
	case from == nil && s.backward:
		err = c.last(root)
	case from == nil:
		err = c.first(root)
	default:
		_, err = c.seek(root, from)
		if err == nil && s.backward {
			if c.valid {
				err = c.prev()
			} else {
				err = c.last(root)
			}
		}
	}
	s.done = !c.valid
	return err
}

// fill reads the next chunk: what is left of the leaf at most. On an error the
// items before it are good.
func (s *scanner) fill() (err error) {
	s.n = 0
	in, err := s.tx.enter()
	if err != nil {
		return err
	}
	defer s.tx.leave(in)
	db := s.tx.db
	defer db.guarded("scan", panicOnFault(true), &err)
	db.rlockReaders()
	defer db.runlockReaders()
	n := s.ahead()
	leaf := s.c.leaf
	for range n {
		more, err := s.take()
		if err != nil {
			return err
		}
		if err := s.move(); err != nil || s.done || !more {
			return err
		}
	}
	if s.c.leaf != leaf {
		s.asked = 0
	}
	return nil
}

// lookAhead is how many records behind a chunk are asked for with it.
const lookAhead = 12

// ahead returns how many records the next chunk has, and asks for them and for
// a few behind it, so that those arrive while the caller is busy with these.
// Both end with the leaf.
func (s *scanner) ahead() int {
	c := &s.c
	left, step := c.n-c.at(), 1
	if s.backward {
		left, step = c.at()+1, -1
	}
	n := min(s.size, left)
	s.size = min(2*s.size, chunkMost)
	passed := c.n - left
	to := min(n+lookAhead, left)
	for i := max(s.asked-passed, 0); i < to; i++ {
		c.ix.askRecord(refOff(valAt(c.vals, c.at()+i*step)))
	}
	s.asked = passed + to
	return n
}

// take decodes the record that the cursor stands on, if it has not expired. It
// returns false behind a large one: a chunk holds one copy of such at most.
func (s *scanner) take() (more bool, err error) {
	db := s.tx.db
	var rec record
	if err := db.readRecord(refOff(s.c.ref()), &rec); err != nil {
		return false, s.named(err)
	}
	if rec.expired(s.tx.at) {
		return true, nil
	}
	it := &s.items[s.n]
	it.key, it.value, it.expiry = rec.key, rec.value, rec.expiry
	if rec.spilled() {
		if it.key, it.value, err = db.content(&rec); err != nil {
			return false, s.named(err)
		}
	}
	s.n++
	return !rec.spilled(), nil
}

// named adds the key to an error about a record.
func (s *scanner) named(err error) error {
	if e, ok := err.(*CorruptError); ok && e.Key == nil {
		e.Key, _, _ = s.c.ix.fullKey(s.c.leaf, pageCount(s.c.leaf), s.c.at())
	}
	return err
}

func (s *scanner) move() error {
	var err error
	if s.backward {
		err = s.c.prev()
	} else {
		err = s.c.next()
	}
	s.done = !s.c.valid
	return err
}
