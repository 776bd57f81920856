//go:build nvkvdebug

package kv

import (
	"nvkv/alloc"
	"nvkv/nvmap"
)

// openUnread opens the region of a store with some rules switched off.
func openUnread(m *nvmap.Map, off rules) (*alloc.Region, error) {
	return alloc.OpenUnreadWithout(m, off.alloc())
}

// alloc returns those of the rules that package alloc keeps.
func (r rules) alloc() (off alloc.Rules) {
	for from, to := range map[rules]alloc.Rules{ruleR9Fall: alloc.RuleA3, ruleR9Fence: alloc.RuleA2, ruleR10: alloc.RuleR10, ruleA10: alloc.RuleA10, ruleA12: alloc.RuleA12, ruleA11: alloc.RuleA11, ruleA4: alloc.RuleA4, ruleA5: alloc.RuleA5} {
		if r&from != 0 {
			off |= to
		}
	}
	return off
}
