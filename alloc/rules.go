package alloc

import "nvkv/nvmap"

// Rules are invariants that a test can switch off, to show that it would notice
// their absence.
type Rules uint32

// The rules that can be switched off.
const (
	// RuleA1 says "creating" until all of a new store is fenced.
	RuleA1 Rules = 1 << iota
	// RuleA2 fences the first copy of a superblock before the second is written.
	RuleA2
	// RuleA3 refuses a store one of whose generations has no good copy.
	RuleA3
	// RuleA4 gives every carving a number of its own.
	RuleA4
	// RuleA5 fences the headers of new groups before the size word names them.
	RuleA5
	// RuleA6 leaves the map of a checkpoint that did not flip aside.
	RuleA6
	// RuleR10 keeps what only snapshots, tombstones and commits under way hold
	// out of the maps on the medium.
	RuleR10
	// RuleA10 discards only what a flipped checkpoint has free.
	RuleA10
	// RuleA11 gives a slab blocks before it is carved.
	RuleA11
	// RuleA12 cuts the device after the size word says so.
	RuleA12
)

// FormatWithout is Format for tests, like OpenWithout.
func FormatWithout(m *nvmap.Map, o Options, off Rules) error { return format(m, o, off) }

// OpenWithout is Open for tests: the rules in off do not hold. With 0 it is Open.
func OpenWithout(m *nvmap.Map, off Rules) (*Region, error) { return openWhole(m, off, magicStore) }
