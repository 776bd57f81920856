package kv

import (
	"fmt"
	"slices"
	"strings"
)

// change is one key's part of an operation. A nil value deletes the key or, with upTo, all keys
// from key up to upTo, exclusively.
type change struct {
	key   string
	value *string
	upTo  *string
	when  *condition // of the change of one key; nil: none
}

func (ch change) String() string {
	if ch.upTo != nil {
		return fmt.Sprintf("delete from %s to %s", shortKey(ch.key), shortKey(*ch.upTo))
	}
	if ch.when != nil {
		return fmt.Sprintf("%v if %d %.8s(%d)", change{key: ch.key, value: ch.value}, ch.when.kind, ch.when.old, len(ch.when.old))
	}
	if ch.value == nil {
		return "delete " + shortKey(ch.key)
	}
	return fmt.Sprintf("put %s=%.8s(%d)", shortKey(ch.key), *ch.value, len(*ch.value))
}

func shortKey(k string) string { return fmt.Sprintf("%.4q(%d)", k, len(k)) }

// with returns m with changes applied in order.
func (m model) with(changes []change) model {
	out := make(model, len(m)+len(changes))
	for k, v := range m {
		out[k] = v
	}
	for _, ch := range changes {
		switch {
		case !ch.holds(out):
		case ch.upTo != nil:
			for k := range out {
				if k >= ch.key && k < *ch.upTo {
					delete(out, k)
				}
			}
		case ch.value == nil:
			delete(out, ch.key)
		default:
			out[ch.key] = *ch.value
		}
	}
	return out
}

// crashKeys are few, so that operations use the same ones. Tombstones of the wide keys soon fill a
// slab; the last two keys lie in runs and overflow pages.
var crashKeys = []string{"", "a", "b", "c", "d", "e", "f", wide("w"), wide("x"), wide("y"), strings.Repeat("k", 300), strings.Repeat("l", 1200)}

func (c *crasher) key() string {
	if c.rng.IntN(3) > 0 {
		return crashKeys[c.rng.IntN(7)]
	}
	if c.rng.IntN(4) > 0 {
		return crashKeys[7+c.rng.IntN(3)]
	}
	return crashKeys[c.rng.IntN(len(crashKeys))]
}

// crashSizes are the sizes of values: of two classes, of one with a few slots per slab, and one
// that lies in runs.
var crashSizes = []int{12, 14, 20, 700, 40, 18, 5000}

func (c *crasher) change() change {
	k := c.key()
	if c.rng.IntN(4) == 0 {
		return change{key: k}
	}
	c.value++
	v := fmt.Sprintf("%d.", c.value)
	v += strings.Repeat("v", crashSizes[c.rng.IntN(len(crashSizes))])
	return change{key: k, value: &v}
}

// conditional makes a change by a conditional call. Its condition holds or, now and then, not; then
// nothing changes.
func (s *session) conditional(ch change) error {
	old, exists := s.acked[ch.key]
	if s.c.rng.IntN(4) == 0 {
		ch.when = &condition{kind: condEquals, old: []byte(old + "x")}
	} else if exists {
		ch.when = &condition{kind: condEquals, old: []byte(old)}
	} else if ch.value != nil {
		ch.when = &condition{kind: condAbsent}
	}
	return s.write([]change{ch}, false)
}

// holds says whether the condition of a change holds in m.
func (ch *change) holds(m model) bool {
	if ch.when == nil {
		return true
	}
	v, exists := m[ch.key]
	return exists == (ch.when.kind == condEquals) && (!exists || v == string(ch.when.old))
}

// callIf makes the conditional call of a change. The condition must hold in the store as in the
// model, which the caller has applied.
func (ch *change) callIf(db *DB) (err error) {
	key, met := []byte(ch.key), false
	switch {
	case ch.value == nil:
		met, err = db.CompareAndDelete(key, ch.when.old)
	case ch.when.kind == condAbsent:
		met, err = db.PutIfAbsent(key, []byte(*ch.value))
	default:
		met, err = db.CompareAndSwap(key, ch.when.old, []byte(*ch.value))
	}
	if err == nil && met != !strings.HasSuffix(string(ch.when.old), "x") {
		return fmt.Errorf("%v: %v", ch, met)
	}
	return err
}

// withRanges returns changes with deleted ranges among them, some of which later changes undo.
func (c *crasher) withRanges(n int) []change {
	out := c.changes(n)
	for range 1 + c.rng.IntN(2) {
		from, to := c.key(), c.key()
		if from > to {
			from, to = to, from
		}
		if c.rng.IntN(8) == 0 {
			from = wide("a" + strings.Repeat("range", 300)) // in runs
		}
		out = slices.Insert(out, c.rng.IntN(len(out)+1), change{key: from, upTo: &to})
	}
	return out
}

func (c *crasher) changes(n int) []change {
	out := make([]change, n)
	for i := range out {
		out[i] = c.change()
	}
	return out
}
