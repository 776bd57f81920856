package btree

import (
	"bytes"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"nvkv/alloc"
	"nvkv/nvmap"
)

// treeModel is a tree in memory with the keys that it must hold.
type treeModel struct {
	t     testing.TB
	ix    Index
	m     *nvmap.Map
	pages Sections
	keys  map[string]Ref
	next  Ref
	way   Path
}

func newTreeModel(t testing.TB) *treeModel {
	m := &treeModel{t: t, keys: map[string]Ref{}}
	dev := nvmap.NewMem(64 << 20)
	var err error
	m.m, err = nvmap.NewMap(dev, nil)
	m.must(err)
	t.Cleanup(func() { m.must(m.m.Close()) })
	m.must(alloc.Format(m.m, alloc.Options{}))
	r, err := alloc.Open(m.m)
	m.must(err)
	m.ix.Init(m.m, r, Options{Sections: &m.pages, Retire: func(nvmap.Off, uint64) {}, Account: m.must})
	m.must(m.ix.Reserve(2, 1, true))
	m.must(m.ix.NewTree())
	return m
}

func (m *treeModel) must(err error) {
	m.t.Helper()
	if err != nil {
		m.t.Fatal(err)
	}
}

// put adds a key or changes its reference; del removes it. Both check that they take no more pages
// and blocks than planned.
func (m *treeModel) put(key []byte) {
	m.reserve(key, false)
	m.next += 8
	var err error
	if m.way.Found() {
		var old Ref
		if old, err = m.ix.Update(&m.way, m.next); old != m.keys[string(key)] {
			m.t.Fatalf("%q had %d, not %d", key, old, m.keys[string(key)])
		}
	} else {
		err = m.ix.Insert(key, m.next, &m.way)
	}
	m.must(err)
	m.keys[string(key)] = m.next
	m.planned(key)
}

func (m *treeModel) del(key []byte) {
	m.reserve(key, true)
	if _, there := m.keys[string(key)]; m.way.Found() != there {
		m.t.Fatalf("%q: found %v, there %v", key, m.way.Found(), there)
	} else if !there {
		return
	}
	old, err := m.ix.Remove(&m.way)
	m.must(err)
	if old != m.keys[string(key)] {
		m.t.Fatalf("%q had %d, not %d", key, old, m.keys[string(key)])
	}
	delete(m.keys, string(key))
	m.planned(key)
}

func (m *treeModel) reserve(key []byte, deletes bool) {
	p := m.ix.NewPlan(nil, deletes)
	m.must(p.Add([]Change{{Key: key, Deletes: deletes}}))
	n, err := p.End()
	m.must(err)
	m.must(m.ix.Reserve(n.Pages, n.Blocks, true))
	m.must(m.ix.Find(key, &m.way))
}

func (m *treeModel) planned(key []byte) {
	if n := m.ix.BeyondReserve(); n > 0 {
		m.t.Fatalf("%d pages beyond the plan for %q", n, key)
	}
}

// cut removes the keys of [start, end) as a range.
func (m *treeModel) cut(start, end []byte) {
	c := NewCutting(start, end)
	m.must(m.ix.Survey(c, &m.way))
	in := func(k string) bool { return k >= string(start) && (end == nil || k < string(end)) }
	gone := 0
	for k := range m.keys {
		if in(k) {
			gone++
		}
	}
	if int64(gone) != c.Keys() {
		m.t.Fatalf("[%q, %q): %d keys, surveyed %d", start, end, gone, c.Keys())
	}
	n, err := m.ix.NewPlan([]*Cutting{c}, false).End()
	m.must(err)
	m.must(m.ix.Reserve(n.Pages, n.Blocks, true))
	m.ix.BeginPrivate()
	freed := 0
	left, err := m.ix.DetachAll(c, &m.way)
	m.must(err)
	m.must(m.ix.CutRest(c, &m.way, func([]byte, Ref) { freed++ }))
	if freed != c.Single() {
		m.t.Fatalf("[%q, %q): %d keys left singly, surveyed %d", start, end, freed, c.Single())
	}
	m.ix.PublishPrivate()
	m.planned(start)
	m.ix.LetGo(1<<30, func(nvmap.Off, uint64) {})
	for len(left) > 0 {
		d := left[len(left)-1]
		_, more, err := m.ix.Dismantle(&d, 7, func(Ref) { freed++ }, func(nvmap.Off, uint64) {})
		m.must(err)
		left = append(left[:len(left)-1], more...)
	}
	if gone != freed {
		m.t.Fatalf("[%q, %q): %d keys, %d freed", start, end, gone, freed)
	}
	maps.DeleteFunc(m.keys, func(k string, _ Ref) bool { return in(k) })
}

// check compares the tree with the model: forwards, backwards, by Trail and by Lookup.
func (m *treeModel) check(root nvmap.PageID, want map[string]Ref) {
	m.t.Helper()
	sorted := slices.Sorted(maps.Keys(want))
	c := NewCursor(&m.ix, false)
	i := 0
	err := c.First(root)
	for ; err == nil && c.Valid(); err = c.Next() {
		key, err := c.Key()
		m.must(err)
		if i == len(sorted) || string(key) != sorted[i] || c.Ref() != want[sorted[i]] {
			m.t.Fatalf("key %d of %d is %q", i, len(sorted), key)
		}
		i++
	}
	m.must(err)
	for err = c.Last(root); err == nil && c.Valid(); err = c.Prev() {
		i--
		if key, err := c.Key(); err != nil || string(key) != sorted[i] {
			m.t.Fatalf("key %d from behind is %q, %v", i, key, err)
		}
	}
	m.must(err)
	if i != 0 {
		m.t.Fatalf("%d keys are missing from behind", i)
	}
	for _, k := range sorted {
		if found, err := c.Seek(root, []byte(k)); err != nil || !found || c.Ref() != want[k] {
			m.t.Fatalf("seek of %q: %v, %v", k, found, err)
		}
	}
}

// current is check for the state that readers see, with Lookup.
func (m *treeModel) current() {
	m.t.Helper()
	m.check(m.ix.Published(), m.keys)
	for k, x := range m.keys {
		var h Hit
		if res := m.ix.Lookup([]byte(k), &h); res != Found || h.Rec != x || !m.ix.Stands(&h) {
			m.t.Fatalf("lookup of %q: %v, %v", k, res, h.Err)
		}
		if same, _ := m.ix.Holds(&h, []byte(k)); !same {
			m.t.Fatalf("the leaf does not hold %q", k)
		}
	}
}

// TestTreeAgainstMap compares a tree with a map. Its keys are random: short, long, with common
// parts, and longer than a page holds. It also cuts ranges, and checks that an older epoch's root
// still shows the state of that epoch.
func TestTreeAgainstMap(t *testing.T) {
	for seed := range uint64(2) {
		rng := rand.New(rand.NewPCG(seed, 11))
		m := newTreeModel(t)
		key := func() []byte {
			k := fmt.Appendf(nil, "%0*d", 1+rng.IntN(6), rng.IntN(3000))
			if n := []int{0, 0, 0, 40, 300, 1000, 9000}[rng.IntN(7)]; seed%2 == 1 {
				k = append(bytes.Repeat([]byte{'k'}, n), k...)
			}
			return k
		}
		for round := range 6 {
			root, before := m.ix.Root(), maps.Clone(m.keys)
			m.ix.NextEpoch() // the tree below root must not change
			for range 400 {
				if k := key(); rng.IntN(3) > 0 || round == 0 {
					m.put(k)
				} else {
					m.del(k)
				}
			}
			if round%2 == 1 {
				a, b := key(), key()
				if bytes.Compare(a, b) > 0 {
					a, b = b, a
				}
				m.cut(a, b)
			}
			m.current()
			m.check(root, before)
		}
		m.cut(nil, nil)
		m.current()
		if h := m.ix.Height(); h != 2 || m.ix.Leaves() != 1 {
			t.Errorf("seed %d: an empty tree has %d levels, %d leaves", seed, h, m.ix.Leaves())
		}
	}
}

// FuzzTree is TestTreeAgainstMap with operations of the fuzzer, three bytes each.
func FuzzTree(f *testing.F) {
	f.Add([]byte("\x00ab\x00ac\x01ab\x02aa\x00b1"))
	rng := rand.New(rand.NewPCG(12, 13))
	ops := make([]byte, 3000)
	for i := range ops {
		ops[i] = byte(rng.Uint32())
	}
	f.Add(ops)
	f.Fuzz(func(t *testing.T, ops []byte) {
		m := newTreeModel(t)
		for ; len(ops) >= 3; ops = ops[3:] {
			k := bytes.Repeat(ops[1:3], 1+int(ops[0]>>3)*20)
			switch ops[0] & 7 {
			case 0:
				m.del(k)
			case 1:
				m.cut(slices.MinFunc([][]byte{ops[1:2], ops[2:3]}, bytes.Compare), slices.MaxFunc([][]byte{ops[1:2], ops[2:3]}, bytes.Compare))
			case 2:
				m.ix.NextEpoch()
			default:
				m.put(k)
			}
		}
		m.current()
	})
}
