package protocol

import (
	"fmt"
	"strings"
)

// Config bounds the exploration.
type Config struct {
	Slots      int  // at most 6
	Operations int  // most operations in a history
	Crashes    int  // most crashes in a history
	AnySlot    bool // try every free slot, not only the first
	Kills      bool // also kill processes, which leaves their writes visible
	Relaxed    bool
	Keys       int  // 0: two
	Lanes      int  // how many goroutines commit single records side by side, at most 3
	OneLeaf    bool // the keys lie in one leaf, until it is split; else each has its own
	Snapshots  bool

	Deletes, Batches, Ranges, Moves, Expiry, Checkpoints bool

	Broken Rule // the rule that is left out
}

// Result is the result of Explore.
type Result struct {
	States  int    // number of different states
	Wrong   string // the history that goes wrong, with its outcome; "" if none does
	History []string
}

func (r Result) String() string {
	if r.Wrong == "" {
		return fmt.Sprintf("%d states", r.States)
	}
	return fmt.Sprintf("%s\n\t%s\n\t=> %s", "after", strings.Join(r.History, "\n\t"), r.Wrong)
}

// Explore examines all histories within the bounds, short ones first, and stops at the first that
// goes wrong.
func Explore(c Config) Result {
	states := 0
	for n := 1; n <= c.Operations; n++ {
		x := explorer{Config: c, seen: map[state]struct{}{}}
		x.Operations = n
		x.begin()
		if x.wrong != "" {
			again := explorer{Config: x.Config, seen: map[state]struct{}{}, telling: true}
			again.begin()
			return Result{len(x.seen), again.wrong, again.history}
		}
		states = len(x.seen)
	}
	return Result{States: states}
}

// explorer walks through histories, depth first.
type explorer struct {
	Config
	seen    map[state]struct{}
	telling bool
	wrong   string
	path    []string
	history []string
}

func (x *explorer) off(r Rule) bool { return x.Broken&r != 0 }

// begin explores a store that was just created and opened.
func (x *explorer) begin() {
	x.Keys = max(x.Keys, 2)
	s := state{run: 1, interval: 1, known: 1, split: !x.OneLeaf}
	s.supers[1].settle(super{gen: 1, interval: 1, run: 1})
	x.explore(s)
}

// visit reports whether to examine a state: it is new, and nothing has gone wrong yet.
func (x *explorer) visit(s state) bool {
	if x.wrong != "" {
		return false
	}
	if _, ok := x.seen[s]; ok {
		return false
	}
	x.seen[s] = struct{}{}
	return true
}

// explore continues from a running store.
func (x *explorer) explore(s state) {
	if !x.visit(s) {
		return
	}
	if o, ok := s.read(); !ok || s.now(o) != s.now(s.history[s.known-1]) {
		x.fail("the index %v shows %v, and %v was written", s.index, s.now(o), s.now(s.history[s.known-1]))
		return
	}
	if o, ok := s.readFrom(&s.snap.root); s.snap.on && (!ok || o != s.snap.saw) {
		x.fail("the snapshot shows %v, and showed %v", o, s.snap.saw)
		return
	}
	x.crash(s)
	x.advance(s)
	if int(s.operations) < x.Operations {
		x.operate(s)
	}
}

// fence makes earlier writes durable, and tries crashes before it.
func (x *explorer) fence(s *state) {
	x.crash(*s)
	s.medium.fence()
}

// crash recovers from every state that a crash of s may leave at this moment.
func (x *explorer) crash(s state) {
	if int(s.crashes) == x.Crashes || x.wrong != "" {
		return
	}
	s.crashes++
	s.afterPowerFailure(func(m medium, what fateOf) {
		defer x.step("power failure: %v", what)()
		after := s
		after.medium = m
		x.recover(after)
	})
	if x.Kills && s.anyPending() {
		defer x.step("killed")()
		s.orphan()
		x.recover(s)
	}
}

// step notes an event that lasts until the returned function is called.
func (x *explorer) step(format string, args ...any) func() {
	if !x.telling {
		return func() {}
	}
	x.path = append(x.path, fmt.Sprintf(format, args...))
	return func() { x.path = x.path[:len(x.path)-1] }
}

// fail ends the exploration.
func (x *explorer) fail(format string, args ...any) {
	if x.wrong != "" {
		return
	}
	x.wrong = fmt.Sprintf(format, args...)
	x.history = append([]string{}, x.path...)
}

func (e entry) String() string {
	switch e.kind {
	case put:
		return fmt.Sprintf("put %d=%d", e.key, e.val)
	case tomb:
		return fmt.Sprintf("delete %d", e.key)
	}
	return "delete all"
}

func (f fateOf) String() string {
	var b strings.Builder
	for i, fate := range f {
		if fate == 0 {
			continue
		}
		name := "superblock"
		switch {
		case i < maxSlots:
			name = fmt.Sprint("slot ", i)
		case i < maxSlots+maxSlabs:
			name = fmt.Sprint("mark ", i-maxSlots)
		case i < cells-2:
			name = fmt.Sprint("tree ", i-maxSlots-maxSlabs)
		}
		fmt.Fprintf(&b, "%s %v; ", name, fate-1)
	}
	if b.Len() == 0 {
		return "nothing at stake"
	}
	return strings.TrimSuffix(b.String(), "; ")
}
