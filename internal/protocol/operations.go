package protocol

// operate does every operation that s allows, each on a copy.
func (x *explorer) operate(s state) {
	if x.Lanes > 0 {
		x.startLanes(s)
	}
	if x.off(L5) && x.Batches {
		x.startBatch(s)
	}
	if s.busy() {
		x.operateBeside(s)
		return
	}
	if x.OneLeaf && !s.split {
		x.split(s)
	}
	if x.Snapshots {
		x.snapshot(s)
	}
	for k := range uint8(x.Keys) {
		x.commit(s, entry{put, k, s.value + 1})
		if s.index[k] == 0 {
			continue
		}
		if x.Deletes {
			x.commit(s, entry{kind: tomb, key: k})
		}
		if x.Moves {
			x.move(s, k)
		}
		if x.Expiry {
			x.expire(s, k)
		}
	}
	if x.Batches {
		x.commit(s, entry{put, 0, s.value + 1}, entry{put, 1, s.value + 2})
		if s.index[0] != 0 {
			x.commit(s, entry{kind: tomb, key: 0}, entry{put, 1, s.value + 1})
		}
		if x.off(R1) {
			x.commit(s, entry{put, 0, s.value + 1}, entry{put, 0, s.value + 2})
		}
	}
	if x.Ranges && s.index != (index{}) {
		x.commit(s, entry{kind: tombs})
		x.commit(s, entry{kind: tombs}, entry{put, 0, s.value + 1})
	}
	if x.Relaxed && s.group > 0 {
		x.sync(s)
	}
	switch {
	case !x.Checkpoints:
	case s.frozen.on:
		x.flip(s)
	default:
		x.freeze(s)
	}
}

// commit makes es a transaction, or a part of the open group.
func (x *explorer) commit(s state, es ...entry) {
	s.operations++
	for _, e := range es {
		s.value = max(s.value, e.val)
	}
	x.place(&s, es, nil)
}

// place tries all free slots for each entry, or takes the first one.
func (x *explorer) place(s *state, es []entry, at []uint8) {
	if len(at) == len(es) {
		x.write(*s, es, at)
		return
	}
	for slot := range uint8(x.Slots) {
		if !s.free(slot) && !(x.off(Reuse) && s.supersededBy(slot, es)) || contains(at, slot) {
			continue
		}
		x.place(s, es, append(at[:len(at):len(at)], slot))
		if !x.AnySlot {
			return
		}
	}
}

func contains(at []uint8, slot uint8) bool {
	for _, a := range at {
		if a == slot {
			return true
		}
	}
	return false
}

// supersededBy reports whether es will remove the slot from the index.
func (s *state) supersededBy(slot uint8, es []entry) bool {
	for _, e := range es {
		if e.kind == put && s.index[e.key] == slot+1 {
			return true
		}
	}
	return false
}

// write stores es in their slots, fences, and publishes them.
func (x *explorer) write(s state, es []entry, at []uint8) {
	if s.group == 0 {
		if x.Relaxed && !s.keepClosing(uint8(x.Slots), at) {
			return // full
		}
		s.counter++
	}
	defer x.step("%v in slots %v", es, at)()
	n := makeNumber(s.run, s.counter)
	for i, e := range es {
		r := record{kind: e.kind, n: n, ord: s.group + uint8(i), key: e.key, val: e.val, sure: true}
		if !x.Relaxed {
			r.count = uint8(len(es))
		}
		x.store(&s, at[i], r)
	}
	s.promise(es)
	if x.Relaxed {
		s.group += uint8(len(es))
		x.publish(&s, es, at)
		x.explore(s)
		return
	}
	if x.off(I3) {
		s.acknowledge()
	}
	if !x.off(I2) {
		x.fence(&s)
	}
	x.publish(&s, es, at)
	s.acknowledge()
	x.explore(s)
}

// keepClosing keeps a slot for the closing record of a new group.
func (s *state) keepClosing(slots uint8, at []uint8) bool {
	for slot := range slots {
		if s.free(slot) && !contains(at, slot) {
			s.closing = slot + 1
			return true
		}
	}
	return false
}

// store writes a record. If it is the slab's first in this interval, it also writes the mark, for
// the same fence.
func (x *explorer) store(s *state, slot uint8, r record) {
	if x.needsMark(s, slot) {
		s.mark(slot, pending)
	}
	s.slots[slot].write(r)
}

// needsMark reports whether this opening has not yet marked the slab of a slot in this interval.
func (x *explorer) needsMark(s *state, slot uint8) bool {
	had := s.touched[slot/slabSlots]
	if x.off(L11) {
		had = s.marks[slot/slabSlots].visible()
	}
	return had < s.interval && !(x.off(R5) && had != 0)
}

// mark marks the slab of a slot.
func (s *state) mark(slot uint8, by cellState) {
	s.touched[slot/slabSlots] = s.interval
	s.marks[slot/slabSlots].writeBy(s.interval, by)
}

// publish puts es into the index. It frees the slots that they supersede, now or later.
func (x *explorer) publish(s *state, es []entry, at []uint8) {
	for i, e := range es {
		switch e.kind {
		case put:
			x.supersede(s, e.key)
			s.index[e.key] = at[i] + 1
		case tomb:
			x.supersede(s, e.key)
			x.bury(s, at[i])
		case tombs:
			for k := range uint8(keys) {
				x.supersede(s, k)
			}
			x.bury(s, at[i])
		}
	}
}

func (x *explorer) supersede(s *state, key uint8) {
	at := s.index[key]
	s.index[key] = 0
	switch {
	case at == 0:
	case !x.Relaxed:
		x.release(s, at-1)
	case x.off(R2):
		s.holds[at-1] = awaitsOne
	default:
		s.holds[at-1] = awaitsTwo
	}
}

// release frees the slot of a superseded record, unless the snapshot can see it.
func (x *explorer) release(s *state, slot uint8) {
	s.holds[slot] = unheld
	if s.snap.on && s.slots[slot].visible().n <= s.snap.last && !x.off(I9) {
		s.holds[slot] = pinned
	}
}

// bury keeps a tombstone.
func (x *explorer) bury(s *state, slot uint8) {
	if !x.off(R6) {
		s.holds[slot] = awaitsFreeze
	}
}

// sync closes the open group.
func (x *explorer) sync(s state) {
	defer x.step("sync")()
	s.operations++
	x.closeGroup(&s)
	x.explore(s)
}

func (x *explorer) closeGroup(s *state) {
	if s.group == 0 {
		return
	}
	slot := s.closing - 1
	if !x.off(I11) {
		x.store(s, slot, record{kind: closing, n: makeNumber(s.run, s.counter), ord: s.group, count: s.group + 1})
	}
	x.fence(s)
	s.turn(awaitsOne, unheld)
	s.turn(awaitsTwo, awaitsOne)
	s.holds[slot] = awaitsOne
	s.group, s.closing = 0, 0
	s.acknowledge()
}

// move writes a key's record again, elsewhere.
func (x *explorer) move(s state, key uint8) {
	r := s.slots[s.index[key]-1].visible()
	if !x.off(I8) {
		x.commit(s, entry{put, key, r.val})
		return
	}
	for slot := range uint8(x.Slots) {
		if !s.free(slot) {
			continue
		}
		x.moveVerbatim(s, key, slot, r)
	}
}

func (x *explorer) moveVerbatim(s state, key, slot uint8, r record) {
	defer x.step("key %d moves to slot %d under number %#x", key, slot, r.n)()
	s.operations++
	x.store(&s, slot, r)
	x.fence(&s)
	s.index[key] = slot + 1
	x.explore(s)
}

// expire lets a key's value expire and takes it out of the index.
func (x *explorer) expire(s state, key uint8) {
	defer x.step("key %d expires", key)()
	s.operations++
	at := s.index[key] - 1
	s.expired |= 1 << s.slots[at].visible().val
	s.index[key] = 0
	if !x.off(R7) {
		s.holds[at] = awaitsFreeze
	}
	x.explore(s)
}

// freeze takes the state that a checkpoint describes.
func (x *explorer) freeze(s state) {
	defer x.step("freeze")()
	s.operations++
	x.closeGroup(&s)
	s.interval++
	s.frozen = frozen{true, makeNumber(s.run, s.counter), s.index, s.interval}
	s.cut()
	s.turn(awaitsFreeze, awaitsFlip)
	if x.off(R9) {
		s.turn(awaitsFlip, unheld)
	}
	x.explore(s)
}

// flip makes the frozen checkpoint the current one.
func (x *explorer) flip(s state) {
	defer x.step("flip")()
	s.operations++
	old := s.newest()
	next := super{gen: old.gen + 1, last: s.frozen.last, place: 1 - old.place, interval: s.frozen.interval, run: s.run}
	if x.off(I4) {
		next.place = old.place
	}
	next.tree = next.gen
	s.trees[next.place].write(tree{next.tree, s.frozen.root})
	if !x.off(FlipFence) {
		x.fence(&s)
	}
	s.writeSuper(next)
	x.fence(&s)
	s.turn(awaitsFlip, unheld)
	if x.off(R8) {
		s.turn(awaitsFreeze, unheld)
	}
	s.frozen = frozen{}
	x.explore(s)
}
