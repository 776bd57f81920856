package alloc

import "nvkv/internal/debug"

// rules are invariants that a test can switch off in a debug build, to show that it would notice
// their absence.
type rules uint32

const (
	ruleA1  rules = 1 << iota // the magic word stays at "creating" until all of a new store is fenced
	ruleA2                    // the first copy of a superblock is fenced before the second is written
	ruleA3                    // a store one of whose generations has no good copy is refused
	ruleA4                    // every carving has a number of its own
	ruleA5                    // the headers of new groups are fenced before the size word names them
	ruleA6                    // the map of a checkpoint that did not flip does not count
	ruleR10                   // maps on the medium mark only slots that the index reaches
	ruleA10                   // only slabs that are free in a flipped checkpoint are discarded
	ruleA11                   // a slab gets blocks before it is carved
	ruleA12                   // the size word excludes slabs before the device is cut
)

// has reports whether r switches off one of off. It is a constant in builds that are no debug
// builds, so the compiler leaves out what depends on it.
func (r rules) has(off rules) bool { return debug.On && r&off != 0 }
