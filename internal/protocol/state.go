package protocol

// state is a running store and the knowledge of its users.
type state struct {
	medium
	recovering bool

	// The state of the process in memory:
	index    index
	holds    [maxSlots]hold
	run      uint8
	counter  uint8
	interval uint8
	touched  [maxSlabs]uint8 // interval of the mark that this opening has written
	frozen   frozen
	snap     snapshot
	split    bool  // each key has a leaf of its own
	group    uint8 // number of records of the open group
	closing  uint8 // slot+1 kept for its closing record

	// The knowledge of the users:
	history [maxHistory]outcome // states that a recovery may show
	known   uint8               // number of these states
	value   uint8               // the newest value put; all differ
	expired uint16              // expired values, by bit

	lanes [maxLanes]lane
	batch batch

	operations, crashes uint8 // so far
}

// hold says why a slot that the index does not reach is not free.
type hold uint8

const (
	unheld       hold = iota
	awaitsFreeze      // free when a checkpoint that is frozen later has flipped
	awaitsFlip        // frozen; free when that checkpoint has flipped
	awaitsTwo         // free when this group and the next are fenced
	awaitsOne
	pinned // free when the snapshot ends
)

// frozen is the state that a checkpoint describes, until it flips.
type frozen struct {
	on       bool
	last     number
	root     index
	interval uint8
}

// outcome is the value of each key, 0 for absent.
type outcome [keys]uint8

const maxHistory = 9

// entry is one change of a transaction.
type entry struct {
	kind     kind
	key, val uint8
}

func (o outcome) with(es []entry) outcome {
	for _, e := range es {
		switch e.kind {
		case put:
			o[e.key] = e.val
		case tomb:
			o[e.key] = 0
		case tombs:
			o = outcome{}
		}
	}
	return o
}

// now returns o with the expired values absent.
func (s *state) now(o outcome) outcome {
	for k, v := range o {
		if s.expired>>v&1 != 0 {
			o[k] = 0
		}
	}
	return o
}

// promise adds the state after es to the states that a recovery may show.
func (s *state) promise(es []entry) {
	s.history[s.known] = s.history[s.known-1].with(es)
	s.known++
}

// acknowledge makes the newest state the only one that a recovery may show.
func (s *state) acknowledge() { s.remember(s.history[s.known-1]) }

func (s *state) remember(o outcome) {
	s.history = [maxHistory]outcome{o}
	s.known = 1
}

// allowed reports whether a recovery may show o. Each commit that a lane has stored and not shown
// may be there or not.
func (s *state) allowed(o outcome) bool {
	for i := range s.known {
		for which := range 1 << (maxLanes + 1) {
			h, ok := s.withLanes(s.history[i], which)
			if ok && s.now(h) == s.now(o) {
				return true
			}
		}
	}
	return false
}

// read returns the values that the index reaches. It returns false if the index names a slot with
// another record.
func (s *state) read() (o outcome, ok bool) { return s.readFrom(&s.index) }

func (s *state) readFrom(x *index) (o outcome, ok bool) {
	for k, at := range x {
		if at == 0 {
			continue
		}
		r := s.slots[at-1].visible()
		if r.kind != put || int(r.key) != k {
			return o, false
		}
		o[k] = r.val
	}
	return o, true
}

func (s *state) free(slot uint8) bool {
	if s.holds[slot] != unheld || s.closing == slot+1 {
		return false
	}
	for _, l := range s.lanes {
		if l.stage > begun && l.slot == slot {
			return false
		}
	}
	if s.batch.n != 0 && (s.batch.at[0] == slot || s.batch.at[1] == slot) {
		return false
	}
	for _, at := range s.index {
		if at == slot+1 {
			return false
		}
	}
	return true
}

// turn changes all holds equal to from into to.
func (s *state) turn(from, to hold) {
	for i, h := range s.holds {
		if h == from {
			s.holds[i] = to
		}
	}
}
