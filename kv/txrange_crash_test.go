package kv

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
)

// manyRanges commits transactions of puts, deletes and ranges on a tree of several levels, some of
// whose pages leave as a whole, and crashes each at its fence and afterwards.
func manyRanges(s *session) error {
	const keys = 40
	key := func(i int) string { return strings.Repeat("k", 700) + fmt.Sprintf("%03d", i) }
	rng := rand.New(rand.NewPCG(9, 4))
	fill := func() error {
		var all []change
		for i := range keys {
			all = append(all, put(key(i), "filled"))
		}
		return s.write(all, false)
	}
	some := func(round int) (out []change) {
		for range 2 + rng.IntN(8) {
			i := rng.IntN(keys)
			switch rng.IntN(6) {
			case 0:
				out = append(out, del(key(i)))
			case 1, 2:
				out = append(out, put(key(i), fmt.Sprint("round ", round)))
			default:
				out = append(out, delRange(key(i), key(i+1+rng.IntN(keys/2))))
			}
		}
		return append(out, delRange(key(2), key(keys/3)), put(key(4), fmt.Sprint("late ", round)), delRange(key(keys/2), key(keys-3)))
	}
	if err := script(fill, s.checkpoint); err != nil {
		return err
	}
	if s.db.ix.Height() < 3 {
		return fmt.Errorf("the tree has %d levels", s.db.ix.Height())
	}
	for round := range 3 {
		err := script(
			func() error { return s.doCrashing(false, some(round)...) },
			func() error {
				s.atFences(func() { s.crash(10) })
				err := s.sync()
				s.m.Hook(nil)
				s.crash(10)
				return firstErr(s.err, err)
			},
			func() error { return s.reopen(round%2 == 0) },
			fill,
			func() error { return s.do(put(key(round), "alone")) },
		)
		if err != nil {
			return fmt.Errorf("round %d: %w", round, err)
		}
	}
	return nil
}

// TestCrashManyRanges: after a crash a transaction with ranges is there as a whole or not at all.
// I12 says which of its puts its ranges leave.
func TestCrashManyRanges(t *testing.T) { tellTwice(t, ruleI12, manyRanges) }

// TestRelaxedCrashManyRanges is the same beside the other transactions of a group.
func TestRelaxedCrashManyRanges(t *testing.T) { relaxedTwice(t, ruleI12, manyRanges) }
