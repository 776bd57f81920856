package alloctest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"nvkv/alloc"
	"nvkv/internal/effort"
	"nvkv/nvmap"
)

// stack is a minimal persistent structure. The root is its top. Each piece has the offset of the
// one below it, and bytes that follow from its size and value.
type stack struct {
	m *nvmap.Map
	a alloc.Allocator
}

// pieceHeader is the size of the header of a piece: the offset of the piece below, its size, and a
// value. A filling follows.
const pieceHeader = 24

func openStack(m *nvmap.Map, open Open) (*stack, error) {
	a, err := open(m)
	if err != nil {
		return nil, err
	}
	s := &stack{m, a}
	return s, a.Recover(func(keep func(alloc.Off, int) error) error {
		_, err := s.walk(keep)
		return err
	})
}

// walk returns the values from the top down.
func (s *stack) walk(visit func(o alloc.Off, n int) error) (values []uint64, err error) {
	le := binary.LittleEndian
	for o := s.a.Root(); o != 0; {
		head := s.m.View(o, pieceHeader)
		if head == nil {
			return nil, fmt.Errorf("a reference to %#x", o)
		}
		n, v := int(le.Uint64(head[8:])), le.Uint64(head[16:])
		body := s.m.View(o, n)
		if n < pieceHeader || body == nil || slices.ContainsFunc(body[pieceHeader:], func(b byte) bool { return b != byte(v) }) {
			return nil, fmt.Errorf("the %d bytes at %#x are not what was stored", n, o)
		}
		if err := visit(o, n); err != nil {
			return nil, err
		}
		values = append(values, v)
		o = alloc.Off(le.Uint64(head))
	}
	return values, nil
}

func (s *stack) values() ([]uint64, error) {
	return s.walk(func(alloc.Off, int) error { return nil })
}

func (s *stack) push(v uint64, n int) error {
	n += pieceHeader
	o, err := s.a.Alloc(n)
	if err != nil {
		return err
	}
	p := make([]byte, n)
	le := binary.LittleEndian
	le.PutUint64(p, uint64(s.a.Root()))
	le.PutUint64(p[8:], uint64(n))
	le.PutUint64(p[16:], v)
	for i := pieceHeader; i < n; i++ {
		p[i] = byte(v)
	}
	if err := s.m.Write(o, p); err != nil {
		return err
	}
	return s.a.SetRoot(o)
}

func (s *stack) pop() error {
	o := s.a.Root()
	if err := s.a.SetRoot(alloc.Off(binary.LittleEndian.Uint64(s.m.View(o, 8)))); err != nil {
		return err
	}
	return s.a.Free(o)
}

// deepest bounds the depth of the stack: in a small device each piece may lie in a slab of its own.
const deepest = 40

// step pushes or pops, and changes model, which lists the values from the top down, in the same
// way. It calls before as soon as the next state of the model is known.
func (s *stack) step(rng *rand.Rand, model []uint64, v uint64, before func(next []uint64)) ([]uint64, error) {
	if len(model) > deepest || len(model) > 0 && rng.IntN(5) < 2 {
		before(model[1:])
		return model[1:], s.pop()
	}
	next := append([]uint64{v}, model...)
	before(next)
	return next, s.push(v, size(rng)/8)
}

// testCrashAnywhere crashes at every write and fence of a history. The stack must be the one before
// or after the operation in progress, and must work.
func testCrashAnywhere(t *testing.T, open Open) {
	steps, limit := effort.Pick(24, 24, 60, 60), effort.Pick(8, 8, 24, 24)
	sim := nvmap.NewSim(nvmap.NewMem(deviceBytes))
	var legal [][]uint64
	images, seed := 0, rand.Uint64()
	t.Logf("seed %d", seed)
	var bad error
	try := func() {
		for im := range sim.Images(uint64(images), limit) {
			if bad == nil {
				if err := afterCrash(im, open, legal); err != nil {
					bad = fmt.Errorf("%v: %w", im, err)
				}
			}
			images++
		}
	}
	sim.OnWrite(func(nvmap.Off, int) { try() })
	sim.OnFence(try)
	legal = [][]uint64{nil}
	s, err := openStack(mapOf(t, sim), open) // creation can crash, too
	must(t, err)
	rng := rand.New(rand.NewPCG(seed, 0))
	var model []uint64
	for i := range steps {
		before := model
		model, err = s.step(rng, model, uint64(i+1), func(next []uint64) { legal = [][]uint64{before, next} })
		must(t, errors.Join(err, bad))
		legal = [][]uint64{model}
	}
	if images < steps {
		t.Errorf("only %d images were looked at", images)
	}
	t.Logf("%d images", images)
}

// afterCrash opens the device that a crash left, compares the stack with the legal ones, uses it
// further, and crashes it again.
func afterCrash(im *nvmap.Image, open Open, legal [][]uint64) error {
	dev := im.Device()
	m, err := nvmap.NewMap(dev, nil)
	if err != nil {
		return err
	}
	defer m.Close()
	s, err := openStack(m, open)
	if err != nil {
		return err
	}
	found, err := s.legal(legal)
	if err != nil {
		return err
	}
	const marker = 999
	if err := s.push(marker, 200); err != nil {
		return err
	}
	return secondCrash(dev.Crash(uint64(len(found))), open, append([]uint64{marker}, found...))
}

// secondCrash opens the device that another crash left after everything was acknowledged.
func secondCrash(dev nvmap.Device, open Open, want []uint64) error {
	m, err := nvmap.NewMap(dev, nil)
	if err != nil {
		return err
	}
	defer m.Close()
	s, err := openStack(m, open)
	if err == nil {
		_, err = s.legal([][]uint64{want})
	}
	if err != nil {
		return fmt.Errorf("second crash: %w", err)
	}
	return nil
}

func (s *stack) legal(legal [][]uint64) ([]uint64, error) {
	found, err := s.values()
	if err == nil && !slices.ContainsFunc(legal, func(l []uint64) bool { return slices.Equal(l, found) }) {
		err = fmt.Errorf("found %v, none of %v", found, legal)
	}
	return found, err
}

// testCrashChain crashes or kills, recovers and continues, many times on one medium. Nothing
// acknowledged may be lost, and nothing may leak.
func testCrashChain(t *testing.T, open Open) {
	rounds := effort.Pick(10, 20, 40, 40)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	sim := nvmap.NewSim(nvmap.NewMem(deviceBytes))
	legal := [][]uint64{nil}
	var v uint64
	for round := range rounds {
		m := mapOf(t, sim)
		s, err := openStack(m, open)
		must(t, err)
		model, err := s.legal(legal)
		must(t, err)
		var next *nvmap.Sim
		crash := rng.IntN(60) // the write at which to crash, if it is reached
		sim.OnWrite(func(nvmap.Off, int) {
			if crash--; crash != 0 || next != nil {
				return
			}
			if round%2 == 0 {
				next = sim.Crash(rng.Uint64())
			} else {
				next = sim.Kill()
			}
		})
		for i := 0; next == nil && i < 30; i++ {
			before := model
			v++
			model, err = s.step(rng, model, v, func(next []uint64) { legal = [][]uint64{before, next} })
			must(t, err)
		}
		if next == nil {
			legal = [][]uint64{model}
			next = sim.Crash(rng.Uint64())
		}
		sim = next
	}
	s, err := openStack(mapOf(t, sim), open)
	must(t, err)
	for s.a.Root() != 0 {
		must(t, s.pop())
	}
	_, other := fresh(t, open)
	left, all := len(fill(t, s.a, 1000)), len(fill(t, other, 1000))
	if left < all*9/10 {
		t.Errorf("after %d crashes there is room for %d pieces, on a new device for %d", rounds, left, all)
	}
}
