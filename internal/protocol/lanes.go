package protocol

// maxLanes is the most commits of single records that are under way side by side.
const maxLanes = 3

// lane is a commit of one record under way. It takes its steps while others take theirs.
type lane struct {
	stage stage
	e     entry
	slot  uint8
	n     number
	from  uint8 // of a move, slot+1 of the record that the mover chose
	leaf  uint8 // where the descent ended
	found bool  // the search found the key in the leaf
	at    uint8 // as the entry of this position, or found that it belongs there
	sure  bool  // no other lane was busy when the number was drawn
	cuts  uint8 // freezes and snapshots since the leaf was latched
}

// stage is the last step that a lane has taken.
type stage uint8

const (
	idle   stage = iota
	begun        // has descended to the leaf
	marked       // has latched the leaf, drawn a number and written the slab's mark
	stored       // has written the record, and searched the leaf
	fenced       // has fenced the record
)

// effect returns o after the commit. A move changes no value.
func (a *lane) effect(o outcome) outcome {
	if a.from != 0 {
		return o
	}
	return o.with([]entry{a.e})
}

func (s *state) busy() bool { return s.lanes != [maxLanes]lane{} || s.batch.n != 0 }

// withLanes returns o with those commits of which a bit is set. It returns false if one of them
// has stored nothing.
func (s *state) withLanes(o outcome, which int) (outcome, bool) {
	for i := range s.lanes {
		if which>>i&1 == 0 {
			continue
		}
		if s.lanes[i].stage < stored {
			return o, false
		}
		o = s.lanes[i].effect(o)
	}
	if which>>maxLanes != 0 {
		if s.batch.n == 0 {
			return o, false
		}
		o = o.with(s.batch.entries())
	}
	return o, true
}

// alone reports whether no lane but l is busy.
func (s *state) alone(l int) bool {
	for i := range s.lanes {
		if i != l && s.lanes[i].stage != idle {
			return false
		}
	}
	return s.batch.n == 0
}

// leafOf returns the leaf to which a key belongs.
func (s *state) leafOf(key uint8) uint8 {
	if s.split {
		return key
	}
	return 0
}

// latched reports whether another commit has latched a leaf.
func (s *state) latched(leaf uint8) bool {
	if s.batch.n != 0 && leaf < 2 {
		return true
	}
	for i := range s.lanes {
		if s.lanes[i].stage > begun && s.lanes[i].leaf == leaf {
			return true
		}
	}
	return false
}

// batch is a transaction of two records that is under way beside lanes, as if L5 did not hold.
type batch struct {
	n   number
	val uint8
	at  [2]uint8
}

func (b *batch) entries() []entry {
	return []entry{{put, 0, b.val}, {put, 1, b.val + 1}}
}

// startBatch writes the records of a batch.
func (x *explorer) startBatch(s state) {
	if s.batch.n != 0 || s.latched(0) || s.latched(1) {
		return
	}
	defer x.step("a batch begins")()
	s.operations++
	s.counter++
	b := batch{n: makeNumber(s.run, s.counter), val: s.value + 1}
	s.value += 2
	for i, e := range b.entries() {
		slot := uint8(0)
		for slot < uint8(x.Slots) && (!s.free(slot) || i > 0 && slot == b.at[0]) {
			slot++
		}
		if slot == uint8(x.Slots) {
			return
		}
		b.at[i] = slot
		x.store(&s, slot, record{kind: put, n: b.n, ord: uint8(i), count: 2, key: e.key, val: e.val, sure: true})
	}
	s.batch = b
	x.explore(s)
}

// endBatch fences the records of a batch and shows them.
func (x *explorer) endBatch(s state) {
	defer x.step("the batch ends")()
	b := s.batch
	s.batch = batch{}
	s.medium.fence()
	x.publish(&s, b.entries(), b.at[:])
	s.remember(s.history[s.known-1].with(b.entries()))
	x.explore(s)
}

// startLanes begins a commit in the first lane that is idle.
func (x *explorer) startLanes(s state) {
	for l := range x.Lanes {
		if s.lanes[l].stage != idle {
			continue
		}
		for k := range uint8(x.Keys) {
			x.begins(s, l, lane{e: entry{put, k, s.value + 1}})
			at := s.index[k]
			if at == 0 {
				continue
			}
			if x.Deletes {
				x.begins(s, l, lane{e: entry{kind: tomb, key: k}})
			}
			if x.Moves {
				x.begins(s, l, lane{e: entry{put, k, s.slots[at-1].visible().val}, from: at})
			}
		}
		return // all lanes are alike
	}
}

// begins lets a lane descend. Another step follows only if something may happen in between.
func (x *explorer) begins(s state, l int, a lane) {
	s.operations++
	s.value = max(s.value, a.e.val)
	a.stage, a.leaf = begun, s.leafOf(a.e.key)
	if x.off(L4) {
		s.counter++
		a.n = makeNumber(s.run, s.counter)
	}
	s.lanes[l] = a
	if a.from != 0 || x.off(L4) || x.off(L8) {
		defer x.step("lane %d begins %v", l, a.e)()
		x.explore(s)
		return
	}
	x.latches(s, l)
}

// latches lets a lane latch its leaf, take a slot and draw its number.
func (x *explorer) latches(s state, l int) {
	a := s.lanes[l]
	if s.latched(a.leaf) && !x.off(L7) {
		return
	}
	if a.from != 0 && !x.off(L10) && !s.moves(l) {
		defer x.step("lane %d has nothing to move", l)()
		s.lanes[l] = lane{}
		x.explore(s)
		return
	}
	for slot := range uint8(x.Slots) {
		mark := s.marks[slot/slabSlots].state
		if !s.free(slot) || !x.off(L1) && mark >= ofLane && mark != ofLane+cellState(l) {
			continue
		}
		x.marks(s, l, slot)
		if !x.AnySlot {
			return
		}
	}
}

// moves looks at what a lane is about to move, and reports whether the index still names it. The
// slot may have another record of the key by now, which the lane then moves.
func (s *state) moves(l int) bool {
	a := &s.lanes[l]
	if s.index[a.e.key] != a.from {
		return false
	}
	a.e.val = s.slots[a.from-1].visible().val
	return true
}

func (x *explorer) marks(s state, l int, slot uint8) {
	a := &s.lanes[l]
	defer x.step("lane %d: %v in slot %d", l, a.e, slot)()
	if !x.off(L4) {
		s.counter++
		a.n = makeNumber(s.run, s.counter)
	}
	a.stage, a.slot = marked, slot
	a.sure = s.alone(l) || x.off(L12)
	if x.needsMark(&s, slot) {
		s.mark(slot, ofLane+cellState(l))
		if !x.off(L2) {
			x.explore(s) // the mark has a fence of its own
			return
		}
	}
	x.stores(s, l)
}

// stores writes a lane's record, and searches the leaf while the record is on its way.
func (x *explorer) stores(s state, l int) {
	a := &s.lanes[l]
	a.stage = stored
	s.slots[a.slot].writeBy(record{kind: a.e.kind, n: a.n, count: 1, key: a.e.key, val: a.e.val, sure: a.sure}, ofLane+cellState(l))
	a.at, a.found = 0, false
	for k := range a.e.key {
		if s.index[k] != 0 && s.leafOf(k) == a.leaf {
			a.at++
		}
	}
	a.found = s.index[a.e.key] != 0 && s.leafOf(a.e.key) == a.leaf
	x.explore(s)
}

// advance lets each lane take its next step.
func (x *explorer) advance(s state) {
	for l := range s.lanes {
		next := s
		a := &next.lanes[l]
		switch a.stage {
		case begun:
			x.latches(next, l)
		case marked:
			x.fencesMark(next, l)
		case stored:
			x.fences(next, l)
		case fenced:
			x.shows(next, l)
		}
		if a.stage >= stored && x.off(L9) {
			x.refuses(s, l)
		}
	}
}

func (x *explorer) fencesMark(s state, l int) {
	defer x.step("lane %d fences its mark", l)()
	s.medium.fenceBy(ofLane + cellState(l))
	x.stores(s, l)
}

func (x *explorer) fences(s state, l int) {
	defer x.step("lane %d fences", l)()
	s.medium.fenceBy(ofLane + cellState(l))
	s.lanes[l].stage = fenced
	x.explore(s)
}

// shows changes the leaf, at the position that the search found, and acknowledges the commit.
func (x *explorer) shows(s state, l int) {
	a := s.lanes[l]
	defer x.step("lane %d shows %v", l, a.e)()
	s.lanes[l] = lane{}
	if !x.change(&s, &a) {
		x.fail("the leaf has no room for %v at %d", a.e, a.at)
		return
	}
	s.remember(a.effect(s.history[s.known-1]))
	x.explore(s)
}

// change changes the leaf that a lane has latched. It returns false if the leaf is in disorder.
func (x *explorer) change(s *state, a *lane) bool {
	key := a.e.key
	var there []uint8
	for k := range uint8(keys) {
		if s.index[k] != 0 && s.leafOf(k) == a.leaf {
			there = append(there, k)
		}
	}
	switch {
	case a.found && int(a.at) >= len(there):
		return false
	case a.found:
		key = there[a.at]
		x.release(s, s.index[key]-1)
	case s.index[key] != 0 && s.leafOf(key) == a.leaf, int(a.at) > len(there):
		return false
	case a.at > 0 && there[a.at-1] > key, int(a.at) < len(there) && there[a.at] < key:
		return false
	}
	at := a.slot + 1
	if a.e.kind == tomb {
		at = 0
		x.bury(s, a.slot)
	}
	if s.leafOf(key) != a.leaf {
		return true // no descent finds it there
	}
	s.index[key] = at
	if a.cuts > 0 { // the leaf is that of the holder too
		if s.frozen.on {
			s.frozen.root[key] = at
		}
		if s.snap.on {
			s.snap.root[key] = at
		}
	}
	return true
}

// refuses ends a commit with an error after its record was stored.
func (x *explorer) refuses(s state, l int) {
	defer x.step("lane %d refuses %v", l, s.lanes[l].e)()
	s.medium.fenceBy(ofLane + cellState(l))
	s.lanes[l] = lane{}
	x.explore(s)
}

// operateBeside does the operations that are allowed while lanes are busy.
func (x *explorer) operateBeside(s state) {
	if s.batch.n != 0 {
		x.endBatch(s)
	}
	if x.off(L8) && !s.split {
		x.split(s)
	}
	if x.Checkpoints && s.frozen.on {
		x.flip(s)
	}
	if x.off(L6) && x.Checkpoints && !s.frozen.on {
		x.freeze(s)
	}
	if x.Snapshots && (s.snap.on || x.off(L6)) {
		x.snapshot(s)
	}
}

// split gives each key a leaf of its own.
func (x *explorer) split(s state) {
	defer x.step("split")()
	s.operations++
	s.split = true
	x.explore(s)
}

// snapshot is an open snapshot.
type snapshot struct {
	on   bool
	last number
	root index
	saw  outcome
}

// snapshot opens a snapshot, or ends it.
func (x *explorer) snapshot(s state) {
	s.operations++
	if s.snap.on {
		defer x.step("the snapshot ends")()
		s.snap = snapshot{}
		s.turn(pinned, unheld)
		x.explore(s)
		return
	}
	defer x.step("snapshot")()
	saw, _ := s.read()
	s.snap = snapshot{true, makeNumber(s.run, s.counter), s.index, saw}
	s.cut()
	x.explore(s)
}

// cut notes for each busy lane that a holder has come that names its leaf: the lane has looked at
// the epoch before, and will change the leaf in place.
func (s *state) cut() {
	for i := range s.lanes {
		if s.lanes[i].stage > begun {
			s.lanes[i].cuts++
		}
	}
}
