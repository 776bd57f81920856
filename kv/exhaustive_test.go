package kv

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"nvkv/internal/effort"
)

// exhaustiveOps are all operations on two keys and two size classes. A value has the number of its
// place in a sequence, so no two are equal.
var exhaustiveOps = []func(at int) []change{
	func(at int) []change { return []change{put("a", small(at))} },
	func(at int) []change { return []change{put("a", large(at))} },
	func(at int) []change { return []change{put("b", small(at))} },
	func(at int) []change { return []change{put("b", large(at))} },
	func(int) []change { return []change{del("a")} },
	func(int) []change { return []change{del("b")} },
	func(at int) []change { return []change{put("a", large(at)), put("b", small(at))} },
	func(at int) []change { return []change{del("a"), put("b", large(at))} },
	func(int) []change { return nil }, // a checkpoint
	func(int) []change { return []change{delRange("a", "c")} },
	func(at int) []change { return []change{put("a", small(at)), delRange("a", "b"), put("b", large(at))} },
}

// plainOps is the number of exhaustiveOps that delete no range. Except in the long form, the others
// are used in sequences of one and two only.
const plainOps = 9

func deletesRange(op int) bool { return op >= plainOps }

// small and large values have classes of their own. A large one fills a third of a slab.
func small(at int) string { return fmt.Sprint(at) }
func large(at int) string { return fmt.Sprint(at) + strings.Repeat("l", 900) }

// TestExhaustive runs every sequence of one, two and three operations on two keys and two size
// classes, and crashes the last operation at every write and fence; shorter sequences crash the
// others. The plain form runs one in 29 of the sequences of three.
func TestExhaustive(t *testing.T) {
	skipInRace(t)
	t.Parallel()
	images, longest, every := effort.Pick(10, 4, 10, 80), effort.Pick(2, 3, 3, 3), effort.Pick(1, 29, 1, 1)
	began := time.Now()
	sequences, states, threes := 0, 0, 0
	var walk func(seq []int)
	walk = func(seq []int) {
		if len(seq) > 0 {
			sequences++
			n, err := crashSequence(seq, images)
			states += n
			if err != nil {
				t.Errorf("sequence %v: %v", seq, err)
			}
		}
		if len(seq) == longest || t.Failed() {
			return
		}
		for i := range exhaustiveOps {
			next := append(seq[:len(seq):len(seq)], i)
			if len(next) == 3 {
				if effort.Now() < effort.Long && slices.ContainsFunc(next, deletesRange) {
					continue
				}
				if threes++; threes%every != 0 {
					continue
				}
			}
			walk(next)
		}
	}
	walk(nil)
	t.Logf("%d sequences, %d states in %v", sequences, states, time.Since(began).Round(time.Millisecond))
}

// crashSequence runs a sequence of operations and crashes the last one.
func crashSequence(seq []int, images int) (states int, err error) {
	c := newCrasher(1)
	c.images, c.between = []int{images}, 1
	s, err := c.start()
	if err != nil {
		return 0, err
	}
	for i, op := range seq {
		s.m.Watch(i == len(seq)-1)
		if changes := exhaustiveOps[op](i); changes == nil {
			s.m.Log("checkpoint")
			err = s.checkpoint()
		} else {
			err = s.write(changes, false)
		}
		if err = firstErr(s.failure(), err); err != nil {
			break
		}
	}
	s.m.Watch(false)
	if err == nil {
		s.crash(1)
		err = s.failure()
	}
	return s.m.Report().States, firstErr(err, s.end())
}

// FuzzOperations takes bytes as operations with crashes among them, two bytes each: what to do, and
// how.
func FuzzOperations(f *testing.F) {
	f.Add([]byte{0, 0, 1, 1, 2, 2, 9, 0, 4, 4, 8, 0, 9, 3})
	f.Add([]byte{6, 1, 9, 1, 7, 2, 9, 2, 10, 0, 8, 0, 11, 1, 5, 5})
	f.Add([]byte{3, 3, 8, 0, 4, 0, 8, 0, 3, 1, 9, 7, 3, 2, 11, 0, 10, 1, 9, 1})
	f.Fuzz(func(t *testing.T, in []byte) {
		if raceBuild || len(in) > 120 {
			return
		}
		if err := fuzzOperations(in); err != nil {
			t.Fatal(err)
		}
	})
}

func fuzzOperations(in []byte) error {
	c := newCrasher(uint64(len(in)))
	c.images, c.between = []int{3, 2}, -1
	s, err := c.start()
	for i := 0; i+1 < len(in) && err == nil; i += 2 {
		err = firstErr(s.fuzzStep(int(in[i]), int(in[i+1]), i), s.failure())
	}
	if err == nil {
		err = firstErr(holds(s.db, s.acked), clean(s.db))
	}
	return firstErr(err, s.end())
}

// fuzzStep does one operation. It watches the device if how is odd.
func (s *session) fuzzStep(what, how, at int) error {
	s.m.Watch(how&1 != 0)
	defer s.m.Watch(false)
	switch n := len(exhaustiveOps); what % (n + 3) {
	default:
		changes := exhaustiveOps[what%(n+3)](at)
		if changes == nil {
			return s.checkpoint()
		}
		for i := range changes {
			changes[i].key += strings.Repeat(string(rune('a'+how>>1%8)), how>>4)
		}
		// Callers that delete ranges wait for a turn of their own.
		return s.write(changes, how&2 != 0 && !deletesRange(what%(n+3)))
	case n:
		s.m.Crash(8)
		return nil
	case n + 1:
		return s.reopen(how&2 != 0)
	case n + 2:
		return s.failedFence()
	}
}

// FuzzImage opens the bytes of a store with some of them changed. The store opens or says why not,
// and returns only values that a key once had. The input is a list of places, two bytes each as a
// share of the store, with the byte to put there.
func FuzzImage(f *testing.F) {
	image, _, ever := smallStore(f, false)
	may := withAbsence(ever)
	f.Add([]byte{0, 0, 1, 4, 0, 2})
	f.Add([]byte{128, 0, 255, 64, 9, 1, 200, 200, 3})
	f.Add([]byte{16, 1, 0x80, 16, 2, 0x80, 16, 3, 0x80})
	f.Fuzz(func(t *testing.T, in []byte) {
		if raceBuild || len(in) > 300 {
			return
		}
		bad := append([]byte(nil), image...)
		for ; len(in) >= 3; in = in[3:] {
			at := (int(in[0])<<8 | int(in[1])) * len(bad) >> 16
			bad[at] ^= in[2]
		}
		db, err := openImage(t, bad)
		if err != nil {
			if !tellsWhy(err) {
				t.Fatal(err)
			}
			return
		}
		defer abandon(db)
		if _, err := judgeDamaged(db, may); err != nil {
			t.Fatal(err)
		}
	})
}

// TestLints counts requests to a medium that the store does not need.
func TestLints(t *testing.T) {
	skipInRace(t)
	c := newCrasher(9)
	s, err := c.start()
	if err != nil {
		t.Fatal(err)
	}
	defer s.end()
	steady := func(name string, n, fences, lines int, f func(i int) error) {
		t.Helper()
		before := s.dev.Lints()
		for i := range n {
			if err := f(i); err != nil {
				t.Fatal(err)
			}
		}
		l := s.dev.Lints()
		gotFences, gotLines := l.Fences-before.Fences, l.Flushes-before.Flushes
		t.Logf("%s: %.2f fences, %.2f lines an operation; of the lines %d were on their way already and %d held what was there",
			name, float64(gotFences)/float64(n), float64(gotLines)/float64(n), l.FlushedAgain-before.FlushedAgain, l.Unchanged-before.Unchanged)
		if gotFences > fences*n+n/4 || gotLines > lines*n {
			t.Errorf("%s: %d fences and %d lines in %d operations, want %d and at most %d each", name, gotFences, gotLines, n, fences, lines)
		}
		if l.IdleFences != before.IdleFences || l.FlushedClean != before.FlushedClean || l.Left != 0 {
			t.Errorf("%s: waste: %+v, before %+v", name, l, before)
		}
	}
	key := func(i int) string { return fmt.Sprintf("key%02d", i%20) }
	steady("warm up", 200, 1, 4, func(i int) error { return s.do(put(key(i), small(i))) })
	steady("put of 100 bytes", 200, 1, 4, func(i int) error { return s.do(put(key(i), strings.Repeat("v", 100))) })
	steady("put of 900 bytes", 100, 1, 19, func(i int) error { return s.do(put(key(i), large(i))) })
	steady("delete", 20, 1, 2, func(i int) error { return s.do(del(key(i))) })
	steady("batch of 10", 40, 1, 30, func(i int) error {
		var changes []change
		for k := range 10 {
			changes = append(changes, put(key(k), small(i)))
		}
		return s.write(changes, false)
	})
}
