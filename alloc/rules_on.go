//go:build nvkvdebug

package alloc

import (
	"fmt"

	"nvkv/nvmap"
)

// Rules are those of this package's invariants that tests of package kv switch off. They exist in
// debug builds only.
type Rules = rules

// These are the rules.
const (
	RuleA2, RuleA3, RuleA4, RuleA5     = ruleA2, ruleA3, ruleA4, ruleA5
	RuleR10, RuleA10, RuleA11, RuleA12 = ruleR10, ruleA10, ruleA11, ruleA12
)

// OpenUnreadWithout is OpenUnread with some rules switched off.
func OpenUnreadWithout(m *nvmap.Map, off Rules) (*Region, error) { return open(m, off, magicStore) }

// RefuseFrom makes the nth allocation from now on and all later ones fail as in a full store. 0
// ends that. It exists in debug builds only.
func (r *Region) RefuseFrom(n int) { r.refusal.from = n }

// errRefused is the error of allocations that RefuseFrom refuses.
var errRefused = fmt.Errorf("%w: a test refuses this allocation", ErrFull)

// refusal counts the allocations until the first that a test refuses. from is 0 if there is none.
type refusal struct{ from int }

// next returns the error of the next allocation, if a test refuses it.
func (r *refusal) next() error {
	switch {
	case r.from > 1:
		r.from--
	case r.from == 1:
		return errRefused
	}
	return nil
}
