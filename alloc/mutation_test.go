package alloc

import (
	"encoding/binary"
	"errors"
	"fmt"
	"go/ast"
	"slices"
	"strings"
	"testing"

	"nvkv/internal/callsites"
	"nvkv/internal/effort"
	"nvkv/nvmap"
	"nvkv/nvmap/crashtest"
)

// linked is a list of numbers in pieces of an allocator, whose root is its head, and the contents
// that the test expects.
type linked struct {
	open        func(*nvmap.Map) (Allocator, error)
	m           *nvmap.Map
	a           Allocator
	acked, more []uint64
}

func (l *linked) Step(m *crashtest.Medium) error {
	n := m.Rand().Uint64()
	l.more = append(slices.Clone(l.acked), n)
	if len(l.acked) > 3 && n%3 == 0 {
		return l.pop()
	}
	o, err := l.a.Alloc(16 + int(n%3)*40)
	if err != nil {
		return err
	}
	node := binary.LittleEndian.AppendUint64(nil, uint64(l.a.Root()))
	if err := l.m.Write(o, binary.LittleEndian.AppendUint64(node, n)); err != nil {
		return err
	}
	err = l.a.SetRoot(o)
	l.acked = l.more
	return err
}

func (l *linked) pop() error {
	top := l.a.Root()
	next, _ := l.node(top)
	l.more = l.acked[:len(l.acked)-1]
	err := errors.Join(l.a.SetRoot(next), l.a.Free(top))
	l.acked = l.more
	return err
}

func (l *linked) node(o Off) (next Off, n uint64) {
	b := l.m.View(o, 16)
	return Off(binary.LittleEndian.Uint64(b)), binary.LittleEndian.Uint64(b[8:])
}

func (l *linked) Recover(m *crashtest.Medium) (crashtest.Session, error) {
	next := &linked{open: l.open}
	var err error
	if next.m, err = nvmap.NewMap(m.Device(), nil); err != nil {
		return nil, err
	}
	err = next.read()
	if err == nil && !slices.Equal(next.acked, l.acked) && !slices.Equal(next.acked, l.more) {
		err = fmt.Errorf("%d numbers, neither the %d nor the %d that may be", len(next.acked), len(l.acked), len(l.more))
	}
	if err != nil {
		return nil, errors.Join(err, next.m.Close())
	}
	return next, nil
}

func (l *linked) read() (err error) {
	if l.a, err = l.open(l.m); err != nil {
		return err
	}
	err = l.a.Recover(func(keep func(Off, int) error) error {
		for o := l.a.Root(); o != 0; {
			next, n := l.node(o)
			if err := keep(o, 16+int(n%3)*40); err != nil {
				return err
			}
			l.acked = append(l.acked, n)
			o = next
		}
		return nil
	})
	slices.Reverse(l.acked)
	l.more = l.acked
	if s, ok := l.a.(*Slabs); ok && err == nil && len(s.r.headBad) > 0 {
		err = s.r.headBad[0]
	}
	return err
}

func (l *linked) End(*crashtest.Medium) error { return l.m.Close() }

// allocators are the allocators that are crashed.
var allocators = map[string]func(*nvmap.Map) (Allocator, error){
	"slabs": func(m *nvmap.Map) (Allocator, error) { return OpenSlabs(m) },
	"buddy": func(m *nvmap.Map) (Allocator, error) { return OpenBuddy(m) },
}

// writingHelpers write or fence for many callers, so their callers count as the places.
var writingHelpers = []string{"nvkv/alloc.writeWord", "nvkv/alloc.writeSuper", "nvkv/alloc.(*Region).writeDesc"}

// TestAllocatorMutation crashes a list on each allocator, with chains and recoveries, and requires
// that each disabled write or fence is noticed. In the plain form it disables a sample of them.
func TestAllocatorMutation(t *testing.T) {
	if testing.Short() {
		t.Skip("thousands of images, one after the other")
	}
	var reached []crashtest.Site
	for name, open := range allocators {
		t.Run(name, func(t *testing.T) {
			suite := func(sites *crashtest.Sites) error {
				for seed := range uint64(3) {
					o := crashtest.Options{Seed: seed, Steps: []int{25, 3, 2}, Images: []int{8, 3, 2}, Between: 3, Chain: 30, MaxBytes: 16 << 20, Sites: sites}
					if seed == 2 { // creation only
						o.Steps, o.Images, o.Between = []int{0}, []int{400}, 1
					}
					report, err := crashtest.Run(o, &linked{open: open})
					if err != nil {
						return err
					}
					if sites.All() {
						t.Log(report)
					}
				}
				return nil
			}
			const all = 0
			o := crashtest.MutateOptions{
				Sample: effort.Pick(all, 2, all, all), Seed: 1, Helpers: writingHelpers,
				Match: func(s crashtest.Site) bool { return !ofRegion(s) },
			}
			m, err := crashtest.Mutate(o, suite)
			if err != nil {
				t.Fatal(err)
			}
			for _, s := range m.Survivors() {
				t.Errorf("unnoticed: %v", s)
			}
			t.Log(m)
			reached = append(reached, m.Sites...)
		})
	}
	calls, err := callsites.In(".", nil, writesOrFences)
	if err != nil {
		t.Fatal(err)
	}
	for _, call := range calls {
		if (call.File == "slabs.go" || call.File == "buddy.go") && !slices.ContainsFunc(reached, call.Reached) {
			t.Errorf("the suite does not reach %v", call)
		}
	}
}

// ofRegion reports whether package kv's mutation test covers a place.
func ofRegion(s crashtest.Site) bool {
	return strings.Contains(s.Func, "(*Region)") || s.Func == "nvkv/alloc.format"
}

// writesOrFences reports whether a call is to a writing method of a map or to a helper.
func writesOrFences(callee ast.Expr) bool {
	switch f := callee.(type) {
	case *ast.Ident:
		return f.Name == "writeWord" || f.Name == "writeSuper"
	case *ast.SelectorExpr:
		return callsites.IsNamed(f.X, "m") && slices.Contains([]string{"Write", "WriteBeside", "WriteBack", "Fence"}, f.Sel.Name)
	}
	return false
}
