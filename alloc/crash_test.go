package alloc

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"testing"

	"nvkv/internal/effort"
	"nvkv/nvmap"
)

const (
	tinyBytes = 1 << 20 // maximum size of a device of these tests
	tinySlab  = 4096
	tinyGroup = 8
)

// imageLimit returns the number of states of the medium to try at each fence.
func imageLimit() int { return effort.Pick(8, 12, 60, 60) }

var tiny = Options{SlabBytes: tinySlab, GroupSlabs: tinyGroup, Payload: []byte("0")}

// mapOf returns the map of a device.
func mapOf(t *testing.T, dev nvmap.Device) *nvmap.Map {
	t.Helper()
	m, err := nvmap.NewMap(dev, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	return m
}

// crashing is a simulated medium that is crashed at every write and fence.
type crashing struct {
	*nvmap.Sim
	images int
	err    error
}

// watch makes check examine states that a crash may leave, from now on.
func watch(s *nvmap.Sim, check func(*nvmap.Map) error) *crashing {
	c := &crashing{Sim: s}
	try := func() {
		for im := range s.Images(uint64(c.images), imageLimit()) {
			if c.err != nil {
				return
			}
			c.images++
			m, err := nvmap.NewMap(im.Device(), nil)
			if err == nil {
				err = errors.Join(check(m), m.Close())
			}
			if err != nil {
				c.err = fmt.Errorf("%v: %w", im, err)
			}
		}
	}
	s.OnFence(try)
	s.OnWrite(func(nvmap.Off, int) { try() })
	return c
}

// verdict fails the test if check returned an error.
func (c *crashing) verdict(t *testing.T) {
	t.Helper()
	if c.err != nil {
		t.Error(c.err)
	}
	if c.images < imageLimit() {
		t.Errorf("only %d images were looked at", c.images)
	}
	t.Logf("%d images", c.images)
}

// verdictWithout is verdict for a test that has switched rules off: then check must have returned
// an error.
func (c *crashing) verdictWithout(t *testing.T, off rules) {
	t.Helper()
	switch {
	case off == 0:
		c.verdict(t)
	case c.err == nil:
		t.Errorf("without the rule nothing was wrong in %d images: the test does not test it", c.images)
	default:
		t.Logf("without the rule: %v", c.err)
	}
}

// TestA1CrashWhileCreating checks that a crash during the creation of a store leaves an empty
// store, or a device that counts as absent and can be formatted.
func TestA1CrashWhileCreating(t *testing.T) {
	crashCreation(t, 0)
	if switches(t) {
		crashCreation(t, ruleA1)
	}
}

func crashCreation(t *testing.T, off rules) {
	s := nvmap.NewSim(nvmap.NewMem(tinyBytes))
	m := mapOf(t, s)
	c := watch(s, func(m *nvmap.Map) error {
		absent, err := Absent(m)
		if err != nil {
			return err
		}
		if absent {
			if err := Format(m, tiny); err != nil {
				return err
			}
		}
		r, err := Open(m)
		if err != nil {
			return err
		}
		if string(r.Payload()) != "0" || len(r.slabs) != 0 {
			return fmt.Errorf("payload %q, %d slabs", r.Payload(), len(r.slabs))
		}
		return nil
	})
	if err := format(m, tiny, off); err != nil {
		t.Fatal(err)
	}
	c.verdictWithout(t, off)
	if absent, err := Absent(m); absent || err != nil {
		t.Errorf("after Format: absent %v, %v", absent, err)
	}
}

// TestA2CrashWhileFlipping checks that a crash leaves the old superblock or the new one, and that
// later writes are as safe.
func TestA2CrashWhileFlipping(t *testing.T) {
	s := nvmap.NewSim(nvmap.NewMem(tinyBytes))
	m := mapOf(t, s)
	if err := Format(m, tiny); err != nil {
		t.Fatal(err)
	}
	r, err := Open(m)
	if err != nil {
		t.Fatal(err)
	}
	step := 0
	c := watch(s, func(m *nvmap.Map) error {
		r, err := Open(m)
		if err != nil {
			return err
		}
		before, after := fmt.Sprint(step-1), fmt.Sprint(step)
		if p := string(r.Payload()); p != before && p != after {
			return fmt.Errorf("payload %q, neither %s nor %s", p, before, after)
		}
		return crashAgain(m, before, string(r.Payload()))
	})
	for step = 1; step <= 5; step++ {
		if err := r.WriteSuper(fmt.Append(nil, step)); err != nil {
			t.Fatal(err)
		}
	}
	c.verdict(t)
}

// crashAgain is the opening after a crash. It writes the superblock that it found again (R12), then
// a new one, and is crashed during both. Bytes that a killed process left may be lost until the
// first write is complete.
func crashAgain(m *nvmap.Map, before, found string) (err error) {
	r, err := Open(m)
	if err != nil {
		return err
	}
	s := m.Device().(*nvmap.Sim)
	legal := []string{before, found}
	s.OnFence(func() {
		for im := range s.Images(1, 8) {
			if e := hasPayload(im, legal); e != nil && err == nil {
				err = fmt.Errorf("second crash, %v: %w", im, e)
			}
		}
	})
	defer s.OnFence(func() {})
	if e := r.RewriteSuper(); e != nil {
		return e
	}
	legal = []string{found, "next"}
	if e := r.WriteSuper([]byte("next")); e != nil {
		return e
	}
	return err
}

func hasPayload(im *nvmap.Image, legal []string) error {
	m, err := nvmap.NewMap(im.Device(), nil)
	if err != nil {
		return err
	}
	defer m.Close()
	r, err := Open(m)
	if err == nil && !slices.Contains(legal, string(r.Payload())) {
		err = fmt.Errorf("payload %q, none of %q", r.Payload(), legal)
	}
	return err
}

// TestA3RottenSuperblocks checks that the other copy replaces a damaged one, and that two damaged
// copies of a pair are corruption, even if the other pair is good.
func TestA3RottenSuperblocks(t *testing.T) {
	for pair := range uint64(2) {
		s := nvmap.NewSim(nvmap.NewMem(tinyBytes))
		m := mapOf(t, s)
		if err := Format(m, tiny); err != nil {
			t.Fatal(err)
		}
		for c := range 2 {
			if err := s.Corrupt(slotOff(pair, c)+500, []byte{1}); err != nil {
				t.Fatal(err)
			}
			r, err := Open(m)
			switch {
			case c == 0 && (err != nil || r.Generation() != 1):
				t.Errorf("pair %d with one bad copy: %v", pair, err)
			case c == 1 && !errors.Is(err, ErrCorrupt):
				t.Errorf("pair %d with two bad copies: %v", pair, err)
			}
		}
	}
}

// TestA4CrashWhileCarving checks that a crash between a carving and its fence leaves the old
// identity of the slab or the new one, and no mixture.
func TestA4CrashWhileCarving(t *testing.T) {
	s := nvmap.NewSim(nvmap.NewMem(tinyBytes))
	m := mapOf(t, s)
	r := mustOpen(t, m)
	type identity struct {
		kind  Kind
		class ClassID
		carve uint32
	}
	legal := map[identity]bool{}
	i := 0
	carveAs := func(c ClassID) Off {
		t.Helper()
		o := must(r.AllocRecord(c, false))
		i = r.SlabOf(o)
		legal[identity{KindRecord, c, r.slabs[i].carve}] = true
		if err := errors.Join(r.Touch(o), m.Write(o, []byte("a record"))); err != nil {
			t.Fatal(err)
		}
		return o
	}
	o := carveAs(1)
	if err := m.Fence(); err != nil {
		t.Fatal(err)
	}
	c := watch(s, func(m *nvmap.Map) error {
		after, err := Open(m)
		if err != nil {
			return err
		}
		got := after.slabs[i]
		if !legal[identity{got.kind, got.class, got.carve}] {
			return fmt.Errorf("slab %d is of kind %v, class %d, carving %d", i, got.kind, got.class, got.carve)
		}
		return nil
	})
	for class := range ClassID(12) {
		r.Free(o)
		clear(legal)
		legal[identity{r.slabs[i].kind, r.slabs[i].class, r.slabs[i].carve}] = true
		legal[identity{KindRecord, onMedium(t, m, r, i), r.slabs[i].carve}] = true
		r.dropCurrent()
		r.freeHint = i
		o = carveAs(class)
		if err := m.Fence(); err != nil {
			t.Fatal(err)
		}
	}
	c.verdict(t)
}

// onMedium returns the class in a slab's descriptor.
func onMedium(t *testing.T, m *nvmap.Map, r *Region, i int) ClassID {
	t.Helper()
	_, class, _, ok := descKeyOf(r.id, i).unpackIdentity(binary.LittleEndian.Uint64(m.View(r.geo.descOff(i), 8)))
	if !ok {
		t.Fatalf("slab %d has no identity", i)
	}
	return class
}

// dropCurrent makes every current slab an ordinary one.
func (r *Region) dropCurrent() {
	for l := range r.lists {
		if i := r.lists[l].cur; i != none {
			r.lists[l].cur = none
			r.afterFree(i)
		}
	}
}

// TestA5CrashWhileGrowing checks that the slabs that a crash leaves are whole groups with headers
// and without identities, also on a device with earlier contents.
func TestA5CrashWhileGrowing(t *testing.T) {
	crashGrowth(t, 0)
	if switches(t) {
		crashGrowth(t, ruleA5)
	}
}

func crashGrowth(t *testing.T, off rules) {
	base := nvmap.NewMem(tinyBytes)
	if err := base.Grow(tinyBytes / 4); err != nil {
		t.Fatal(err)
	}
	const area = (1 + superSlots) * nvmap.PageBytes
	if err := base.Write(area, bytes.Repeat([]byte{0xa5}, tinyBytes/4-area)); err != nil {
		t.Fatal(err)
	}
	s := nvmap.NewSim(base)
	m := mapOf(t, s)
	r := mustOpen(t, m)
	r.off = off
	c := watch(s, func(m *nvmap.Map) error {
		after, err := Open(m)
		if err != nil {
			return err
		}
		if n := len(after.headBad); n > 0 {
			return fmt.Errorf("%d findings, the first %w", n, after.headBad[0])
		}
		for slab := range after.Slabs() {
			return fmt.Errorf("slab %d is carved: %v", slab.Index, slab.Kind)
		}
		return nil
	})
	for range 4 {
		if err := r.grow(2 * tinyGroup); err != nil {
			t.Fatal(err)
		}
	}
	c.verdictWithout(t, off)
}

// TestR12HeadIsWrittenAgain lets a process die while it creates or grows a store, and the next one
// relies on the head that it sees. After that opening a power failure must not lose the head.
func TestR12HeadIsWrittenAgain(t *testing.T) {
	s := nvmap.NewSim(nvmap.NewMem(tinyBytes))
	m := mapOf(t, s)
	kills := 0
	s.OnFence(func() {
		killed := s.Kill()
		defer killed.Close()
		if err := relyOn(t, killed); err != nil {
			t.Errorf("killed at fence %d: %v", kills, err)
		}
		kills++
	})
	r := mustOpen(t, m)
	for range 5 {
		if err := r.grow(2 * tinyGroup); err != nil {
			t.Fatal(err)
		}
	}
	if kills < 10 {
		t.Errorf("only %d kills", kills)
	}
}

// relyOn opens the device that a killed process left, if it is a store, and crashes it.
func relyOn(t *testing.T, s *nvmap.Sim) error {
	m := mapOf(t, s)
	if absent, err := Absent(m); absent || err != nil {
		return err
	}
	r, err := Open(m)
	if err != nil {
		return err
	}
	if err := r.RewriteSuper(); err != nil {
		return err
	}
	for im := range s.Images(1, imageLimit()) {
		after, err := Open(mapOf(t, im.Device()))
		if err != nil {
			return fmt.Errorf("%v: %w", im, err)
		}
		if len(after.slabs) != len(r.slabs) {
			return fmt.Errorf("%v: %d slabs, and %d were relied on", im, len(after.slabs), len(r.slabs))
		}
	}
	return nil
}

// TestA6MapOfLostCheckpoint checks that the map of a checkpoint that did not flip does not count,
// neither at the next opening nor when later superblocks have its generation.
func TestA6MapOfLostCheckpoint(t *testing.T) {
	if err := loseCheckpoint(t, 0); err != nil {
		t.Error(err)
	}
	if !switches(t) {
		return
	}
	if err := loseCheckpoint(t, ruleA6); err == nil {
		t.Error("without the rule nothing was wrong: the test does not test it")
	} else {
		t.Logf("without the rule: %v", err)
	}
}

func loseCheckpoint(t *testing.T, off rules) (wrong error) {
	m := mapOf(t, nvmap.NewMem(tinyBytes))
	r := mustOpen(t, m)
	kept, gone := must(r.AllocRecord(0, false)), must(r.AllocRecord(0, false))
	r.SetLive(kept)
	r.SetLive(gone)
	if err := r.Touch(kept); err != nil {
		t.Fatal(err)
	}
	flip := func(r *Region) uint64 {
		t.Helper()
		g := r.Generation() + 1
		if err := errors.Join(r.WriteMaps(r.FreezeMaps(), g), m.Fence(), r.WriteSuper(nil)); err != nil {
			t.Fatal(err)
		}
		return g
	}
	opened := func(checkpoint uint64, live bool) *Region {
		t.Helper()
		r, err := openWhole(m, off, magicStore)
		if err != nil {
			t.Fatal(err)
		}
		if _, unclean, err := r.LoadMaps(checkpoint); len(unclean) > 0 || err != nil {
			t.Fatalf("unclean %v, %v", unclean, err)
		}
		r.Ready()
		if !r.IsLive(kept) || r.IsLive(gone) != live {
			wrong = fmt.Errorf("generation %d, checkpoint %d: live %v and %v, want true and %v", r.Generation(), checkpoint, r.IsLive(kept), r.IsLive(gone), live)
		}
		return r
	}
	checkpoint := flip(r)
	r.ClearLive(gone)
	if err := r.WriteMaps(r.FreezeMaps(), r.Generation()+1); err != nil { // then the power failed
		t.Fatal(err)
	}
	for range 3 { // openings that each write a superblock
		if err := opened(checkpoint, true).WriteSuper(nil); err != nil {
			t.Fatal(err)
		}
	}
	checkpoint = flip(opened(checkpoint, true)) // nothing has changed, but maps must be written
	opened(checkpoint, true)
	return wrong
}

// mustOpen formats a map with tiny slabs and opens it for use.
func mustOpen(t *testing.T, m *nvmap.Map) *Region {
	t.Helper()
	if err := Format(m, tiny); err != nil {
		t.Fatal(err)
	}
	r, err := Open(m)
	if err != nil {
		t.Fatal(err)
	}
	r.SetInterval(1)
	r.Ready()
	return r
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}
