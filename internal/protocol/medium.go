package protocol

// The model's store: two keys, a few slots, slabs of two of them.
const (
	keys      = 2
	maxSlots  = 6
	slabSlots = 2
	maxSlabs  = maxSlots / slabSlots
	maxRuns   = 6
)

// number is a transaction's: run<<4 | counter. 0 is none.
type number uint8

func makeNumber(run, counter uint8) number { return number(run<<4 | counter) }
func (n number) run() uint8                { return uint8(n >> 4) }
func (n number) counter() uint8            { return uint8(n & 15) }

// kind is what a record says.
type kind uint8

const (
	nothing kind = iota // no record, or one that is torn
	put                 // key has val
	tomb                // key is gone
	tombs               // all keys are gone that an older record has
	closing             // the group is complete: count says how many it has, itself included
)

// record is what a slot holds. In a group count is 0 but in the closing record.
type record struct {
	kind       kind
	n          number
	ord, count uint8
	key, val   uint8
}

// newer says whether r was written after the record with number n and ordinal ord.
func (r *record) newer(n number, ord uint8) bool { return r.n > n || r.n == n && r.ord > ord }

// index says in which slot each key's record is: slot+1, 0 where the key is absent.
type index [keys]uint8

// tree is the index as a checkpoint writes it. All its pages are one cell: what
// matters is whether all of them were fenced.
type tree struct {
	gen  uint8 // of the checkpoint's superblock; 0: torn, or never written
	root index
}

// super is a superblock.
type super struct {
	gen      uint8
	last     number
	place    uint8 // of the tree
	tree     uint8 // its gen
	interval uint8 // that began with the checkpoint's freeze
	run      uint8
	ended    [maxRuns]uint8 // by run: its last counter that counts, plus one
}

// counts says whether transactions of this number may count: of the run that
// wrote the superblock any, of an earlier one what was decided.
func (s *super) counts(n number) bool {
	return n.run() == s.run || n.counter() < s.ended[n.run()]
}

// cell is a part of the medium that is written as a whole: what it holds for
// certain, and what was written into it since.
type cell[T comparable] struct {
	durable, written T
	state            cellState
}

type cellState uint8

const (
	settled cellState = iota
	pending           // the next fence makes it durable
	stuck             // written by a process that died: no later fence covers it
)

func (c *cell[T]) visible() T {
	if c.state == settled {
		return c.durable
	}
	return c.written
}

// write stores v. What was on its way to the same cell counts as lost; the same
// bytes as before change nothing, however they tear.
func (c *cell[T]) write(v T) {
	if c.state != settled || c.durable != v {
		c.written, c.state = v, pending
	}
}

func (c *cell[T]) settle(v T) {
	var none T
	c.durable, c.written, c.state = v, none, settled
}

func (c *cell[T]) fence() {
	if c.state == pending {
		c.settle(c.written)
	}
}

// orphan leaves what is pending visible, but not durable.
func (c *cell[T]) orphan() {
	if c.state == pending {
		c.state = stuck
	}
}

// fate is what a power failure does to a cell that is not settled.
type fate uint8

const (
	lost fate = iota
	kept
	torn
	fates
)

func (f fate) String() string { return [...]string{"lost", "kept", "torn"}[f] }

// meet applies a fate; false where it is not another one.
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

// medium is everything that lasts. Records and trees can tear, and their checksums
// then tell. A mark is one word, and a superblock stands twice, one copy written
// after the other is fenced: neither tears.
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

func (m *medium) fence() {
	m.each((*cell[record]).fence, (*cell[uint8]).fence, (*cell[tree]).fence, (*cell[super]).fence)
}

func (m *medium) orphan() {
	m.each((*cell[record]).orphan, (*cell[uint8]).orphan, (*cell[tree]).orphan, (*cell[super]).orphan)
}

// unsettled says whether a cell is in a state.
func (m *medium) unsettled(s cellState) bool {
	for i := range cells {
		if m.stateOf(i) == s {
			return true
		}
	}
	return false
}

// afterPowerFailure calls f with everything that a power failure may leave, and
// what became of each cell.
func (m medium) afterPowerFailure(f func(medium, fateOf)) { m.powerFails(0, fateOf{}, f) }

// fateOf is each cell's, plus one; 0 where nothing was at stake.
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
