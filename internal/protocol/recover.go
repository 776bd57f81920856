package protocol

// recover opens the store that a crash left, and begins a run.
func (x *explorer) recover(s state) {
	s.forget()
	if !x.visit(s) {
		return
	}
	sb := s.newest()
	base := s.trees[sb.place].visible()
	if base.gen != sb.tree {
		x.fail("superblock %d names a tree of checkpoint %d, and finds one of %d", sb.gen, sb.tree, base.gen)
		return
	}
	found := s.candidates(&sb)
	found, last := x.decide(&s, &sb, found)
	if !x.off(R12) {
		s.supers[sb.gen%2].write(sb)
		x.fence(&s)
	}
	x.replay(&s, base.root, found)
	o, ok := s.read()
	if !ok {
		x.fail("the recovered index %v names a slot that holds something else", s.index)
		return
	}
	if !s.allowed(o) {
		x.fail("recovered %v, and the history allows %v", s.now(o), s.history[:s.known])
		return
	}
	s.lanes, s.batch = [maxLanes]lane{}, batch{}
	s.remember(o)
	x.beginRun(&s, sb, last)
	s.recovering = false
	x.explore(s)
}

// forget clears the state that only the process had.
func (s *state) forget() {
	s.index, s.holds, s.frozen = index{}, [maxSlots]hold{}, frozen{}
	s.run, s.counter, s.interval, s.group, s.closing = 0, 0, 0, 0, 0
	s.snap, s.touched = snapshot{}, [maxSlabs]uint8{}
	s.recovering = true
}

// set is a set of slots, by bit.
type set uint8

func (c set) has(slot int) bool { return c>>slot&1 != 0 }

// candidates returns the slots whose records are newer than the checkpoint, except those that
// earlier recoveries decided not to count.
func (s *state) candidates(sb *super) (found set) {
	for i := range s.slots {
		r := s.slots[i].visible()
		if r.kind != nothing && s.marks[i/slabSlots].visible() >= sb.interval && r.n > sb.last && sb.counts(r.n) {
			found |= 1 << i
		}
	}
	return found
}

// decide returns the candidates without the highest transaction of the run that died, if that
// transaction did not end, and the last counter of the run that counts. It writes all records that
// count again (R12, L3).
func (x *explorer) decide(s *state, sb *super, found set) (counted set, last uint8) {
	highest := number(0)
	for i := range s.slots {
		if n := s.slots[i].visible().n; found.has(i) && n.run() == sb.run {
			highest = max(highest, n)
		}
	}
	if highest == 0 {
		return found, 0
	}
	members := set(0)
	for i := range s.slots {
		if found.has(i) && s.slots[i].visible().n == highest {
			members |= 1 << i
		}
	}
	last = highest.counter()
	if !x.whole(s, members) {
		found, members = found&^members, 0
		last--
	}
	for i := range s.slots {
		if (members.has(i) || found.has(i) && x.inFlight(s, sb, s.slots[i].visible().n) && !x.off(L3)) && !x.off(R12) {
			s.slots[i].write(s.slots[i].visible())
			s.marks[i/slabSlots].write(max(sb.interval, s.marks[i/slabSlots].visible()))
		}
	}
	return found, last
}

// inFlight reports whether transaction n may have been under way when its run died: it is not below
// the highest number of the run that says that all lower ones were fenced (L12).
func (x *explorer) inFlight(s *state, sb *super, n number) bool {
	for i := range s.slots {
		r := s.slots[i].visible()
		if r.kind != nothing && r.sure && r.n.run() == sb.run && n < r.n {
			return false
		}
	}
	return n.run() == sb.run
}

// whole reports whether all records of a transaction are there.
func (x *explorer) whole(s *state, members set) bool {
	var ordinals, total uint8
	for i := range s.slots {
		if members.has(i) {
			r := s.slots[i].visible()
			ordinals |= 1 << r.ord
			total = max(total, r.count)
		}
	}
	if total == 0 { // a group without its closing record
		return x.off(I11)
	}
	return ordinals == 1<<total-1
}

// replay updates the checkpoint's index. The newest record of each key counts, unless a newer range
// covers it.
func (x *explorer) replay(s *state, root index, found set) {
	s.index = root
	for i := range s.slots {
		if !found.has(i) {
			continue
		}
		r := s.slots[i].visible()
		if r.kind != put && !x.off(R6Again) {
			s.holds[i] = awaitsFreeze
		}
		if r.kind == tombs {
			s.index = index{} // the records in the checkpoint are older
		}
	}
	for k := range s.index {
		if at, newest := x.newest(s, found, uint8(k)); at >= 0 {
			s.index[k] = 0
			if newest.kind == put {
				s.index[k] = uint8(at) + 1
			}
		}
	}
}

// newest returns the newest record of a key, including ranges. at is negative if there is none.
func (x *explorer) newest(s *state, found set, key uint8) (at int, newest record) {
	at = -1
	for i := range s.slots {
		r := s.slots[i].visible()
		if !found.has(i) || r.kind == closing || r.kind != tombs && r.key != key {
			continue
		}
		ranged := r.kind == tombs && x.off(I12) // with I12 off, whatever its number
		if at < 0 || ranged || r.newer(newest.n, newest.ord) && !(newest.kind == tombs && x.off(I12)) {
			at, newest = i, r
		}
	}
	return at, newest
}

// beginRun makes this opening a run: it gets numbers of its own, and the superblock gets the
// decision on the run that died.
func (x *explorer) beginRun(s *state, sb super, last uint8) {
	if x.off(R4) {
		s.run, s.counter, s.interval = sb.run, max(last, lastOf(&sb)), sb.interval
		return
	}
	sb.ended[sb.run] = last + 1
	sb.run++
	sb.gen++
	s.writeSuper(sb)
	x.fence(s)
	s.run, s.counter, s.interval = sb.run, 0, sb.interval
}

// lastOf returns the counter of the checkpoint's last transaction, if that belongs to the run that
// continues.
func lastOf(sb *super) uint8 {
	if sb.last.run() == sb.run {
		return sb.last.counter()
	}
	return 0
}
