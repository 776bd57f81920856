package protocol

// state is a running store, and what its users know of it.
type state struct {
	medium
	recovering bool

	// What the process has in memory.
	index    index
	holds    [maxSlots]hold
	run      uint8
	counter  uint8
	interval uint8
	frozen   frozen
	group    uint8 // records of the open group
	closing  uint8 // slot+1 that is kept for its closing record

	// What users know.
	history [maxHistory]outcome // states that a recovery may show
	known   uint8               // how many they are
	value   uint8               // the newest that was put: no two are equal
	expired uint16              // values that have, by bit

	operations, crashes uint8 // so far
}

// hold says why a slot that the index does not reach is not free.
type hold uint8

const (
	unheld       hold = iota
	awaitsFreeze      // free when a checkpoint that is frozen from now on has flipped
	awaitsFlip        // frozen already
	awaitsTwo         // free when this group and the next are fenced
	awaitsOne
)

// frozen is what a checkpoint describes, until it flips.
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

// now is o when what has expired is absent.
func (s *state) now(o outcome) outcome {
	for k, v := range o {
		if s.expired>>v&1 != 0 {
			o[k] = 0
		}
	}
	return o
}

// promise adds the state behind es to what a recovery may show.
func (s *state) promise(es []entry) {
	s.history[s.known] = s.history[s.known-1].with(es)
	s.known++
}

// acknowledge makes the newest state the only one that may be shown.
func (s *state) acknowledge() { s.remember(s.history[s.known-1]) }

func (s *state) remember(o outcome) {
	s.history = [maxHistory]outcome{o}
	s.known = 1
}

func (s *state) allowed(o outcome) bool {
	for i := range s.known {
		if s.now(s.history[i]) == s.now(o) {
			return true
		}
	}
	return false
}

// read returns what the index shows; false where it names a slot that holds
// something else.
func (s *state) read() (o outcome, ok bool) {
	for k, at := range s.index {
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
	for _, at := range s.index {
		if at == slot+1 {
			return false
		}
	}
	return true
}

// turn gives all slots that have hold from the hold to.
func (s *state) turn(from, to hold) {
	for i, h := range s.holds {
		if h == from {
			s.holds[i] = to
		}
	}
}
