package nvmap_test

import (
	"encoding/binary"
	"fmt"
	"go/ast"
	"slices"
	"testing"

	"nvkv/internal/callsites"
	"nvkv/nvmap"
	"nvkv/nvmap/crashtest"
)

// bytesTest crashes a map that is used through Load and Store, in changing modes, with frames for
// at most half of its pages. Cells are words, several to a page.
//
// The oracle: a Load returns the value stored last. After a crash a cell holds its value at the
// last Sync or any value stored since.
type bytesTest struct {
	m     *nvmap.Map
	legal [][]uint64 // by cell: the values that a crash may leave, the newest last
}

const (
	bytesCells = bytesPages
	bytesPages = 2 * bytesCache / nvmap.PageBytes
	bytesCache = 1 << 20
)

// bytesCell returns the offset of cell i. Cells lie at several places in their pages.
func bytesCell(i int) nvmap.Off {
	return nvmap.PageID(i%bytesPages).Off() + nvmap.Off(i%3*1360)
}

func (b *bytesTest) newest(i int) uint64 { return b.legal[i][len(b.legal[i])-1] }

func (b *bytesTest) load(i int) (uint64, error) {
	var p [8]byte
	err := b.m.Load(bytesCell(i), p[:])
	return binary.LittleEndian.Uint64(p[:]), err
}

func (b *bytesTest) store(i int, v uint64) error {
	return b.m.Store(bytesCell(i), binary.LittleEndian.AppendUint64(nil, v))
}

func (b *bytesTest) Step(m *crashtest.Medium) error {
	i := m.Rand().IntN(bytesCells)
	switch r := m.Rand().IntN(20); {
	case r < 12:
		v := m.Rand().Uint64()
		m.Log("store %x in %d, %v", v, i, b.m.Mode())
		b.legal[i] = append(b.legal[i], v)
		return b.store(i, v)
	case r < 18:
		v, err := b.load(i)
		if err == nil && v != b.newest(i) {
			err = fmt.Errorf("cell %d reads %x, %x was stored", i, v, b.newest(i))
		}
		return err
	case r < 19:
		return b.m.SetMode(nvmap.Cached + nvmap.Mode(m.Rand().IntN(3)))
	}
	m.Log("sync")
	if err := b.m.Sync(); err != nil {
		return err
	}
	b.settle()
	return nil
}

// settle makes the values stored last the only ones that a crash may leave.
func (b *bytesTest) settle() {
	for i := range b.legal {
		b.legal[i] = []uint64{b.newest(i)}
	}
}

func (b *bytesTest) Recover(m *crashtest.Medium) (crashtest.Session, error) {
	next := &bytesTest{legal: make([][]uint64, bytesCells)}
	var err error
	next.m, err = nvmap.NewMap(m.Device(), &nvmap.MapOptions{CacheBytes: bytesCache, Mode: nvmap.Direct})
	if err == nil {
		err = next.m.Grow(bytesPages * nvmap.PageBytes)
	}
	for i := 0; i < bytesCells && err == nil; i++ {
		var v uint64
		if v, err = next.load(i); err == nil && !slices.Contains(b.legal[i], v) {
			err = fmt.Errorf("cell %d holds %x, none of %x", i, v, b.legal[i])
		}
		if err == nil {
			err = next.store(i, v) // the value may be visible and not durable
		}
		next.legal[i] = []uint64{v}
	}
	if err == nil {
		err = next.m.Sync()
	}
	return next, err
}

func (b *bytesTest) End(*crashtest.Medium) error { return b.m.Close() }

// TestMapMutation disables each place from which a map with Load and Store writes or fences, one at
// a time, and requires that the crash test fails.
func TestMapMutation(t *testing.T) {
	if raceEnabled {
		t.Skip("one goroutine, many images")
	}
	suite := func(sites *crashtest.Sites) error {
		for seed, base := range []func(int64) nvmap.Device{nvmap.NewMem, crashtest.ShowingLate} {
			o := crashtest.Options{Seed: uint64(seed), Steps: []int{1200, 5}, Images: []int{2, 1}, Between: 40, Chain: 50, Base: base, Sites: sites}
			report, err := crashtest.Run(o, emptyBytes())
			if err != nil {
				return err
			}
			if sites.All() {
				t.Log(report)
			}
		}
		return nil
	}
	m, err := crashtest.Mutate(crashtest.MutateOptions{OfMap: true, Helpers: []string{"nvkv/nvmap.(*Map).Fence"}}, suite)
	if err != nil {
		t.Fatal(err)
	}
	t.Log(m)
	for _, s := range m.Survivors() {
		t.Errorf("unnoticed: %v", s)
	}
	// write.go passes calls of a map's owner on. The suites of packages alloc and kv count the
	// callers instead.
	calls, err := callsites.In(".", []string{"write.go"}, func(callee ast.Expr) bool {
		f, ok := callee.(*ast.SelectorExpr)
		return ok && (f.Sel.Name == "Write" || f.Sel.Name == "Fence") && (callsites.IsNamed(f.X, "dev") || callsites.IsNamed(f.X, "m"))
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, call := range calls {
		if !slices.ContainsFunc(m.Sites, call.Reached) {
			t.Errorf("the suite does not reach %v", call)
		}
	}
}

// emptyBytes returns the session of an empty medium.
func emptyBytes() *bytesTest {
	b := &bytesTest{legal: make([][]uint64, bytesCells)}
	for i := range b.legal {
		b.legal[i] = []uint64{0}
	}
	return b
}
