package protocol

// The model's store has two or three keys and a few slots, two to a slab.
const (
	keys      = 3
	maxSlots  = 6
	slabSlots = 2
	maxSlabs  = maxSlots / slabSlots
	maxRuns   = 6
)

// number is the number of a transaction: run<<4 | counter. 0 is none.
type number uint8

func makeNumber(run, counter uint8) number { return number(run<<4 | counter) }
func (n number) run() uint8                { return uint8(n >> 4) }
func (n number) counter() uint8            { return uint8(n & 15) }

// kind is the meaning of a record.
type kind uint8

const (
	nothing kind = iota // no record, or a torn one
	put                 // key has val
	tomb                // key is gone
	tombs               // all keys with an older record are gone
	closing             // the group is complete: count is its number of records, this one included
)

// record is the contents of a slot. In a group, count is 0 except in the closing record.
type record struct {
	kind       kind
	n          number
	ord, count uint8
	key, val   uint8
	sure       bool // all lower numbers were fenced before this one was written (L12)
}

// newer reports whether r was written after the record with number n and ordinal ord.
func (r *record) newer(n number, ord uint8) bool { return r.n > n || r.n == n && r.ord > ord }

// index maps each key to the slot of its record: slot+1, or 0 if the key is absent.
type index [keys]uint8

// tree is the index as a checkpoint writes it. All its pages are one cell, because it only matters
// whether all of them were fenced.
type tree struct {
	gen  uint8 // generation of the checkpoint's superblock; 0: torn, or never written
	root index
}

// super is a superblock.
type super struct {
	gen      uint8
	last     number
	place    uint8 // place of the tree
	tree     uint8 // generation of the tree
	interval uint8 // the interval that began with the checkpoint's freeze
	run      uint8
	ended    [maxRuns]uint8 // by run: the last counter that counts, plus one
}

// counts reports whether transactions with this number may count: any of the run that wrote the
// superblock, and of earlier runs those up to the decided end.
func (s *super) counts(n number) bool {
	return n.run() == s.run || n.counter() < s.ended[n.run()]
}

// cell is a part of the medium that is written as a whole. It has a durable value, and perhaps a
// later written one.
type cell[T comparable] struct {
	durable, written T
	state            cellState
}

type cellState uint8

const (
	settled cellState = iota
	stuck             // written by a process that died; no later fence covers it
	pending           // the next fence makes it durable
	ofLane            // and above, by number of the lane: the next fence of that lane does
)

func (c *cell[T]) visible() T {
	if c.state == settled {
		return c.durable
	}
	return c.written
}

// write stores v, and the next fence of the serial path makes it durable.
func (c *cell[T]) write(v T) { c.writeBy(v, pending) }

// writeBy stores v. An earlier pending write to the cell counts as lost. Writing the durable value
// changes nothing, however it tears.
func (c *cell[T]) writeBy(v T, by cellState) {
	if c.state != settled || c.durable != v {
		c.written, c.state = v, by
	}
}

func (c *cell[T]) settle(v T) {
	var none T
	c.durable, c.written, c.state = v, none, settled
}

// fenceBy makes a value durable that the same writer wrote. On a processor a fence covers the
// stores of its own thread alone.
func (c *cell[T]) fenceBy(by cellState) {
	if c.state == by {
		c.settle(c.written)
	}
}

// orphan leaves a pending value visible, but not durable.
func (c *cell[T]) orphan() {
	if c.state != settled {
		c.state = stuck
	}
}

// fate is the effect of a power failure on a cell that is not settled.
type fate uint8

const (
	lost fate = iota
	kept
	torn
	fates
)

func (f fate) String() string { return [...]string{"lost", "kept", "torn"}[f] }

// meet applies a fate. It returns false if the result is the same as of another fate.
func (c *cell[T]) meet(f fate, tears bool) bool {
	switch f {
	case lost:
		c.settle(c.durable)
	case kept:
		c.settle(c.written)
	case torn:
		var none T
		c.settle(none)
		return tears
	}
	return true
}

// medium is the durable state. Records and trees can tear, which their checksums detect. A mark is
// one word, and a superblock has two copies, one written after the other is fenced, so neither
// tears.
type medium struct {
	slots  [maxSlots]cell[record]
	marks  [maxSlabs]cell[uint8]
	trees  [2]cell[tree]
	supers [2]cell[super]
}

const cells = maxSlots + maxSlabs + 2 + 2

func (m *medium) stateOf(i int) cellState {
	switch {
	case i < maxSlots:
		return m.slots[i].state
	case i < maxSlots+maxSlabs:
		return m.marks[i-maxSlots].state
	case i < cells-2:
		return m.trees[i-maxSlots-maxSlabs].state
	}
	return m.supers[i-(cells-2)].state
}

func (m *medium) meet(i int, f fate) bool {
	switch {
	case i < maxSlots:
		return m.slots[i].meet(f, true)
	case i < maxSlots+maxSlabs:
		return m.marks[i-maxSlots].meet(f, false)
	case i < cells-2:
		return m.trees[i-maxSlots-maxSlabs].meet(f, true)
	}
	return m.supers[i-(cells-2)].meet(f, false)
}

func (m *medium) each(slots func(*cell[record]), marks func(*cell[uint8]), trees func(*cell[tree]), supers func(*cell[super])) {
	for i := range m.slots {
		slots(&m.slots[i])
	}
	for i := range m.marks {
		marks(&m.marks[i])
	}
	for i := range m.trees {
		trees(&m.trees[i])
		supers(&m.supers[i])
	}
}

func (m *medium) fence() { m.fenceBy(pending) }

func (m *medium) fenceBy(by cellState) {
	m.each(func(c *cell[record]) { c.fenceBy(by) }, func(c *cell[uint8]) { c.fenceBy(by) },
		func(c *cell[tree]) { c.fenceBy(by) }, func(c *cell[super]) { c.fenceBy(by) })
}

func (m *medium) orphan() {
	m.each((*cell[record]).orphan, (*cell[uint8]).orphan, (*cell[tree]).orphan, (*cell[super]).orphan)
}

// anyPending reports whether some write of the running process is not durable.
func (m *medium) anyPending() bool {
	for i := range cells {
		if m.stateOf(i) >= pending {
			return true
		}
	}
	return false
}

// afterPowerFailure calls f with every state that a power failure may leave, and the fate of each
// cell.
func (m medium) afterPowerFailure(f func(medium, fateOf)) { m.powerFails(0, fateOf{}, f) }

// fateOf has the fate of each cell, plus one, or 0 if the cell was settled.
type fateOf [cells]fate

func (m *medium) powerFails(from int, what fateOf, f func(medium, fateOf)) {
	for from < cells && m.stateOf(from) == settled {
		from++
	}
	if from == cells {
		f(*m, what)
		return
	}
	for fate := range fates {
		after := *m
		if !after.meet(from, fate) {
			continue
		}
		what[from] = fate + 1
		after.powerFails(from+1, what, f)
	}
}

// newest returns the superblock that counts.
func (m *medium) newest() super {
	a, b := m.supers[0].visible(), m.supers[1].visible()
	if a.gen > b.gen {
		return a
	}
	return b
}

func (m *medium) writeSuper(s super) { m.supers[s.gen%2].write(s) }
