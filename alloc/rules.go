package alloc

import (
	"fmt"

	"nvkv/internal/debug"
	"nvkv/nvmap"
)

// Rules are invariants that a test can switch off, to show that it would notice their absence.
type Rules uint32

// has reports whether r switches off one of off. It is a constant in builds that are no debug
// builds, so the compiler leaves out what depends on it.
func (r Rules) has(off Rules) bool { return debug.On && r&off != 0 }

// The rules that can be switched off, in debug builds.
const (
	// RuleA1 keeps the magic word at "creating" until all of a new store is fenced.
	RuleA1 Rules = 1 << iota
	// RuleA2 fences the first copy of a superblock before the second is written.
	RuleA2
	// RuleA3 refuses a store one of whose generations has no good copy.
	RuleA3
	// RuleA4 gives every carving a number of its own.
	RuleA4
	// RuleA5 fences the headers of new groups before the size word names them.
	RuleA5
	// RuleA6 ignores the map of a checkpoint that did not flip.
	RuleA6
	// RuleR10 excludes slots that only snapshots, tombstones and unfinished commits hold from the
	// maps on the medium.
	RuleR10
	// RuleA10 discards only slabs that are free in a flipped checkpoint.
	RuleA10
	// RuleA11 gives a slab blocks before it is carved.
	RuleA11
	// RuleA12 cuts the device after the size word excludes the slabs.
	RuleA12
)

// FormatWithout is Format for tests: the rules in off do not hold.
func FormatWithout(m *nvmap.Map, o Options, off Rules) error { return format(m, o, off) }

// OpenWithout is Open for tests: the rules in off do not hold. With 0 it is Open.
func OpenWithout(m *nvmap.Map, off Rules) (*Region, error) { return openWhole(m, off, magicStore) }

// errRefused is the error of allocations that RefuseFrom refuses.
var errRefused = fmt.Errorf("%w: a test refuses this allocation", ErrFull)

// RefuseFrom is for tests: the nth allocation from now on and all later ones fail as in a full
// store. 0 ends that.
func (r *Region) RefuseFrom(n int) { r.refuseFrom = n }

func (r *Region) refused() bool {
	if r.refuseFrom > 1 {
		r.refuseFrom--
		return false
	}
	return true
}
