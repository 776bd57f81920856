package boltfile

import "fmt"

// Check examines every page that the buckets reach, and the freelist. It calls fn with each fault
// until fn returns false. A page must be either reached once or free, and keys must ascend. Check
// needs a byte of memory for each page.
func (f *File) Check(fn func(error) bool) {
	c := checker{file: f, state: make([]pageState, f.pages), report: fn}
	c.state[0], c.state[1] = reached, reached
	c.freelist()
	whole := c.buckets(f.Root(), f.newPageSet(), nil)
	if f.meta.freelist == noFreelist || !whole {
		return // it is not known which pages are free, or reached by unreadable pages
	}
	for number, s := range c.state {
		if s == unseen {
			c.fault(corrupt(uint64(number), "neither reached nor free"))
		}
	}
}

type pageState uint8

const (
	unseen pageState = iota
	reached
	free
)

type checker struct {
	file    *File
	state   []pageState
	report  func(error) bool
	stopped bool
}

func (c *checker) fault(err error) {
	if !c.stopped {
		c.stopped = !c.report(err)
	}
}

// mark notes that pages are reached or free. A page that is both, or twice one of them, is a fault.
func (c *checker) mark(number uint64, more uint32, s pageState) {
	for n := number; n <= number+uint64(more); n++ {
		if c.state[n] != unseen {
			c.fault(corrupt(n, "used twice: it is %s, and %s", c.state[n], s))
		}
		c.state[n] = s
	}
}

func (s pageState) String() string {
	return [...]string{"unseen", "reached", "free"}[s]
}

func (c *checker) freelist() {
	number := c.file.meta.freelist
	if number == noFreelist {
		return
	}
	p, err := c.file.read(number, nil)
	if err != nil {
		c.fault(fmt.Errorf("freelist: %w", err))
		return
	}
	if p.kind() != kindFreelist {
		c.fault(corrupt(number, "kind %#x where the freelist must be", p.kind()))
		return
	}
	c.mark(number, p.overflow(), reached)
	ids, n := p[pageHeader:], uint64(p.count())
	if n == manyFree && len(ids) >= 8 {
		n, ids = le.Uint64(ids), ids[8:]
	}
	if n > uint64(len(ids)/8) {
		c.fault(corrupt(number, "a freelist of %d entries does not fit", n))
		return
	}
	for i := range n {
		id := le.Uint64(ids[8*i:])
		if id < 2 || id >= c.file.pages {
			c.fault(corrupt(number, "free page %d is outside of the file", id))
		} else {
			c.mark(id, 0, free)
		}
	}
}

// buckets checks a bucket and the buckets in it, and reports whether all of it could be read. An
// error ends the walk of one bucket, not that of the others.
func (c *checker) buckets(b *Bucket, seen pageSet, path []byte) (whole bool) {
	whole = true
	w := walk{file: c.file, seen: seen}
	w.visit = func(number uint64, more uint32) { c.mark(number, more, reached) }
	w.fn = func(e Entry) error {
		if c.stopped {
			return errStopped
		}
		if !e.IsBucket {
			return nil
		}
		name := append(append(path[:len(path):len(path)], '/'), e.Key...)
		nested, err := b.Nested(e)
		if err != nil {
			c.fault(err)
			whole = false
			return nil
		}
		whole = c.buckets(nested, seen, name) && whole
		return nil
	}
	if err := w.bucket(b); err != nil {
		c.fault(fmt.Errorf("bucket %q: %w", short(path), err))
		return false
	}
	return whole
}
