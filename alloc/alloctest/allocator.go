// Package alloctest checks that an allocator keeps the promises of alloc.Allocator, including those
// after a crash.
package alloctest

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"nvkv/alloc"
	"nvkv/nvmap"
)

// Open opens the allocator on a map, or makes one if the device is empty. It does not call Recover.
type Open func(m *nvmap.Map) (alloc.Allocator, error)

// The devices of the suite can grow to deviceBytes. Tests with random sizes use largeBytes, because
// slabs need a slab for each size class.
const (
	deviceBytes = 4 << 20
	largeBytes  = 32 << 20
)

// TestAllocator runs the suite on devices that it makes.
func TestAllocator(t *testing.T, open Open) {
	for _, test := range []struct {
		name string
		run  func(*testing.T, Open)
	}{
		{"Pieces", testPieces},
		{"Refusals", testRefusals},
		{"Full", testFull},
		{"BadReferences", testBadReferences},
		{"FailedFence", testFailedFence},
		{"Foreign", testForeign},
		{"CrashAnywhere", testCrashAnywhere},
		{"CrashChain", testCrashChain},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t, open) })
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func mapOf(t *testing.T, d nvmap.Device) *nvmap.Map {
	t.Helper()
	m, err := nvmap.NewMap(d, nil)
	must(t, err)
	t.Cleanup(func() { m.Close() })
	return m
}

// recovered opens the allocator on m and keeps the given pieces.
func recovered(m *nvmap.Map, open Open, pieces map[alloc.Off]int) (alloc.Allocator, error) {
	a, err := open(m)
	if err != nil {
		return nil, err
	}
	return a, a.Recover(func(keep func(alloc.Off, int) error) error {
		for _, o := range slices.Sorted(maps.Keys(pieces)) {
			if err := keep(o, pieces[o]); err != nil {
				return err
			}
		}
		return nil
	})
}

func fresh(t *testing.T, open Open) (*nvmap.Map, alloc.Allocator) {
	t.Helper()
	m := mapOf(t, nvmap.NewMem(deviceBytes))
	a, err := recovered(m, open, nil)
	must(t, err)
	return m, a
}

// content returns the bytes that fill a piece of n bytes at o.
func content(o alloc.Off, n int) []byte {
	p := make([]byte, n)
	for i := range p {
		p[i] = byte(o>>6) ^ byte(i) ^ byte(i>>8)
	}
	return p
}

// intact returns an error if a piece does not hold its content.
func intact(m *nvmap.Map, pieces map[alloc.Off]int) error {
	for o, n := range pieces {
		if !bytes.Equal(m.View(o, n), content(o, n)) {
			return fmt.Errorf("the %d bytes at %#x are not what was stored", n, o)
		}
	}
	return nil
}

// testPieces allocates and frees at random. Pieces must lie inside the device, be aligned and not
// overlap. After opening again, the kept pieces must still be there.
func testPieces(t *testing.T, open Open) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	m := mapOf(t, nvmap.NewMem(largeBytes))
	a, err := recovered(m, open, nil)
	must(t, err)
	pieces := map[alloc.Off]int{}
	total := 0
	for i := range 4000 {
		if n := size(rng); total+2*n < largeBytes/8 {
			o, err := a.Alloc(n)
			must(t, err)
			if o == 0 || o%8 != 0 || m.View(o, n) == nil {
				t.Fatalf("%d bytes at %#x of %#x", n, o, m.Size())
			}
			if _, twice := pieces[o]; twice {
				t.Fatalf("%#x was handed out twice", o)
			}
			must(t, m.Write(o, content(o, n)))
			pieces[o] = n
			total += n
		}
		if rng.IntN(3) == 0 || total > largeBytes/10 {
			o := any1(rng, pieces)
			must(t, a.Free(o))
			total -= pieces[o]
			delete(pieces, o)
		}
		if i%1000 == 999 {
			must(t, intact(m, pieces))
			must(t, m.Fence())
			a, err = recovered(m, open, pieces)
			must(t, err)
		}
	}
	must(t, intact(m, pieces))
}

// size returns a random size of a piece, mostly small.
func size(rng *rand.Rand) int {
	switch rng.IntN(20) {
	case 0:
		return 1 + rng.IntN(100_000)
	case 1, 2, 3:
		return 1 + rng.IntN(5000)
	}
	return 1 + rng.IntN(300)
}

func any1(rng *rand.Rand, pieces map[alloc.Off]int) alloc.Off {
	all := slices.Sorted(maps.Keys(pieces))
	return all[rng.IntN(len(all))]
}

func wantErr(t *testing.T, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: %v, want %v", what, err, want)
	}
}

func testRefusals(t *testing.T, open Open) {
	m := mapOf(t, nvmap.NewMem(deviceBytes))
	a, err := open(m)
	must(t, err)
	if a.Root() != 0 {
		t.Errorf("a new allocator has the root %#x", a.Root())
	}
	_, err = a.Alloc(8)
	wantErr(t, "Alloc before Recover", err, alloc.ErrNotRecovered)
	wantErr(t, "Free before Recover", a.Free(8), alloc.ErrNotRecovered)
	wantErr(t, "SetRoot before Recover", a.SetRoot(8), alloc.ErrNotRecovered)
	nothing := func(func(alloc.Off, int) error) error { return nil }
	must(t, a.Recover(nothing))
	if a.Recover(nothing) == nil {
		t.Error("recovered twice")
	}
	for _, n := range []int{0, -1, -1 << 30} {
		_, err := a.Alloc(n)
		wantErr(t, fmt.Sprintf("Alloc(%d)", n), err, alloc.ErrSize)
	}
	if _, err := a.Alloc(1 << 30); !errors.Is(err, alloc.ErrSize) && !errors.Is(err, alloc.ErrFull) {
		t.Errorf("Alloc of 1 TiB: %v", err)
	}
	o, err := a.Alloc(500)
	must(t, err)
	for _, bad := range []alloc.Off{0, o + 8, o - 8, 1 << 50, ^alloc.Off(0)} {
		wantErr(t, fmt.Sprintf("Free(%#x)", bad), a.Free(bad), alloc.ErrNotAllocated)
	}
	must(t, a.Free(o))
	wantErr(t, "freeing twice", a.Free(o), alloc.ErrNotAllocated)
}

// fill allocates pieces of n bytes until there is no room.
func fill(t *testing.T, a alloc.Allocator, n int) (pieces []alloc.Off) {
	t.Helper()
	for {
		o, err := a.Alloc(n)
		if err != nil {
			wantErr(t, fmt.Sprintf("Alloc(%d) number %d", n, len(pieces)), err, alloc.ErrFull)
			return pieces
		}
		if pieces = append(pieces, o); len(pieces) > deviceBytes/n {
			t.Fatalf("%d pieces of %d bytes on a device of %d", len(pieces), n, deviceBytes)
		}
	}
}

// testFull checks that a full device returns ErrFull, and that all freed space can be allocated
// again, also for pieces of another size and after opening again.
func testFull(t *testing.T, open Open) {
	m, a := fresh(t, open)
	var most [3]int
	for round := range 3 {
		for i, n := range []int{1000, 64, 20_000} {
			pieces := fill(t, a, n)
			if round == 0 {
				most[i] = len(pieces)
			}
			if len(pieces) < most[i] || len(pieces)*n < deviceBytes/3 {
				t.Errorf("round %d: %d pieces of %d bytes, before %d", round, len(pieces), n, most[i])
			}
			if round == 1 { // nothing is kept, so all of it is free
				must(t, m.Fence())
				var err error
				a, err = recovered(m, open, nil)
				must(t, err)
				continue
			}
			for _, o := range pieces {
				must(t, a.Free(o))
			}
		}
	}
}

// testBadReferences checks references that a walk keeps, which come from the medium and may be
// anything.
func testBadReferences(t *testing.T, open Open) {
	m, a := fresh(t, open)
	o, err := a.Alloc(100)
	must(t, err)
	big, err := a.Alloc(40_000)
	must(t, err)
	must(t, a.SetRoot(o)) // the piece is on the medium, as far as pieces ever are
	type piece struct {
		o alloc.Off
		n int
	}
	for _, bad := range [][]piece{
		{{o + 8, 100}}, {{o, 0}}, {{o, -5}}, {{o, 1 << 30}}, {{1 << 47, 8}}, {{^alloc.Off(7), 8}}, {{0, 8}}, {{8, 8}},
		{{o, 100}, {o, 100}}, {{big, 40_000}, {o, 100}, {big, 40_000}}, {{big + 64, 40_000}},
	} {
		a, err := open(m)
		must(t, err)
		err = a.Recover(func(keep func(alloc.Off, int) error) error {
			for _, p := range bad {
				_ = keep(p.o, p.n) // a careless user
			}
			return nil
		})
		wantErr(t, fmt.Sprintf("keeping %#x", bad), err, alloc.ErrCorrupt)
		_, err = a.Alloc(8)
		wantErr(t, "Alloc after a recovery that failed", err, alloc.ErrNotRecovered)
	}
	mine := errors.New("mine")
	a, err = open(m)
	must(t, err)
	wantErr(t, "an error of walk", a.Recover(func(func(alloc.Off, int) error) error { return mine }), mine)
	_, err = recovered(m, open, map[alloc.Off]int{o: 100, big: 40_000})
	must(t, err)
}

// testFailedFence checks that after a failed SetRoot every call fails until the allocator is opened
// again.
func testFailedFence(t *testing.T, open Open) {
	for nth := 1; nth <= 2; nth++ {
		s := nvmap.NewSim(nvmap.NewMem(deviceBytes))
		m := mapOf(t, s)
		a, err := recovered(m, open, nil)
		must(t, err)
		o, err := a.Alloc(100)
		must(t, err)
		broken := errors.New("broken")
		s.FailFence(nth, broken)
		wantErr(t, "SetRoot", a.SetRoot(o), broken)
		_, err = a.Alloc(8)
		wantErr(t, "Alloc after it", err, broken)
		wantErr(t, "Free after it", a.Free(o), broken)
		wantErr(t, "SetRoot after it", a.SetRoot(o), broken)
	}
}

// testForeign checks that a device with other contents is refused and not changed.
func testForeign(t *testing.T, open Open) {
	m := mapOf(t, nvmap.NewMem(deviceBytes))
	must(t, m.Grow(1<<20))
	text := bytes.Repeat([]byte("somebody's file "), 64)
	must(t, m.Write(0, text))
	_, err := open(m)
	wantErr(t, "opening it", err, alloc.ErrNotStore)
	if !bytes.Equal(m.View(0, len(text)), text) {
		t.Error("it was changed")
	}
}
