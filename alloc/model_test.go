package alloc

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"nvkv/nvmap"
)

// piece is something that was handed out.
type piece struct {
	off   Off
	bytes int64
	run   bool
}

// TestModelRandom hands out and takes back at random until the device is full
// and beyond: nothing overlaps, everything lies in data slabs, the books agree,
// and what is live comes back when the region is opened anew.
func TestModelRandom(t *testing.T) {
	seeds := uint64(8)
	if testing.Short() {
		seeds = 2
	}
	for seed := range seeds {
		slabBytes := 4096 << (seed % 4)
		t.Run(fmt.Sprintf("seed=%d,slab=%d", seed, slabBytes), func(t *testing.T) {
			modelRun(t, rand.New(rand.NewPCG(seed, 3)), slabBytes)
		})
	}
}

// allocModel compares a region with what was asked of it.
type allocModel struct {
	t      *testing.T
	rng    *rand.Rand
	r      *Region
	pieces []piece
	owner  map[Off]Off // by 8 bytes: which piece
	full   int         // how often there was no room
}

func modelRun(t *testing.T, rng *rand.Rand, slabBytes int) {
	m := mapOf(t, nvmap.NewMem(2<<20))
	if err := Format(m, Options{SlabBytes: slabBytes, GroupSlabs: 16}); err != nil {
		t.Fatal(err)
	}
	a := &allocModel{t: t, rng: rng, owner: map[Off]Off{}}
	a.open(m, 0)
	for round := range 6 {
		give := 70 - 10*round // per cent; grows full first, runs empty last
		for range 900 {
			if rng.IntN(100) < give {
				a.take(rng.IntN(20) == 0)
			} else {
				a.giveBack()
			}
		}
		a.check()
		a.open(m, a.checkpoint(m))
	}
	if a.full == 0 {
		t.Error("the device never was full")
	}
	for len(a.pieces) > 0 {
		a.giveBack()
	}
	if s := a.r.Stats(); s.UsedBytes != 0 || s.LiveBytes != 0 {
		t.Errorf("%d bytes used and %d live, nothing is handed out", s.UsedBytes, s.LiveBytes)
	}
	a.check()
}

// open opens the region as after a crash, with the maps of a checkpoint.
func (a *allocModel) open(m *nvmap.Map, checkpoint uint64) {
	a.t.Helper()
	r, err := Open(m)
	if err != nil {
		a.t.Fatal(err)
	}
	if ambiguous, err := r.LoadMaps(checkpoint); err != nil || len(ambiguous) > 0 {
		a.t.Fatalf("ambiguous %v, %v", ambiguous, err)
	}
	r.SetInterval(checkpoint + 1)
	r.Ready()
	a.r = r
	for _, p := range a.pieces {
		if !r.IsUsed(p.off) || !r.IsLive(p.off) {
			a.t.Fatalf("%d bytes at %#x: used %v, live %v after opening", p.bytes, uint64(p.off), r.IsUsed(p.off), r.IsLive(p.off))
		}
	}
}

// checkpoint makes what is live durable and returns its generation.
func (a *allocModel) checkpoint(m *nvmap.Map) uint64 {
	a.t.Helper()
	g := a.r.Generation() + 1
	for _, p := range a.pieces {
		if err := a.r.Touch(p.off); err != nil {
			a.t.Fatal(err)
		}
	}
	if err := errors.Join(a.r.WriteMaps(a.r.FreezeMaps(), g), m.Fence(), a.r.WriteSuper(nil)); err != nil {
		a.t.Fatal(err)
	}
	return g
}

func (a *allocModel) take(urgent bool) {
	var p piece
	var err error
	switch a.rng.IntN(8) {
	case 0:
		var id nvmap.PageID
		id, err = a.r.AllocPage(urgent)
		p = piece{off: id.Off(), bytes: nvmap.PageBytes}
	case 1:
		p.off, err = a.r.AllocBlock(urgent)
		p.bytes = BlockBytes
	case 2:
		a.takeRuns(a.rng.Int64N(40000) + 1)
		return
	default:
		n := a.rng.IntN(a.rng.IntN(a.r.LargestSlot()) + 1)
		class, ok := a.r.ClassFor(n)
		if !ok || a.r.SlotBytes(class) < n {
			a.t.Fatalf("%d bytes have class %d, %v", n, class, ok)
		}
		p.off, err = a.r.AllocRecord(class, urgent)
		p.bytes = int64(a.r.SlotBytes(class))
	}
	if a.refused(err) {
		return
	}
	a.r.SetLive(p.off)
	a.own(p)
}

func (a *allocModel) takeRuns(n int64) {
	a.t.Helper()
	before := a.r.Stats().UsedBytes
	list, err := a.r.AllocRuns(n, 6)
	if a.refused(err) {
		if after := a.r.Stats().UsedBytes; after != before {
			a.t.Fatalf("refused runs took %d bytes", after-before)
		}
		return
	}
	for _, e := range list {
		a.r.SetLiveRun(e)
		a.own(piece{e.Off, e.Bytes, true})
		n -= e.Bytes
	}
	if n > 0 {
		a.t.Fatalf("runs are %d bytes short", n)
	}
}

// refused says whether there was no room; any other error is a failure.
func (a *allocModel) refused(err error) bool {
	a.t.Helper()
	if err != nil && !errors.Is(err, ErrFull) {
		a.t.Fatal(err)
	}
	if err != nil {
		a.full++
	}
	return err != nil
}

func (a *allocModel) own(p piece) {
	a.t.Helper()
	if p.off%8 != 0 || a.r.geo.isMeta(a.r.SlabOf(p.off)) || int64(p.off)+p.bytes > a.r.geo.sizeOf(len(a.r.slabs)) {
		a.t.Fatalf("%d bytes at %#x: not a place in a data slab", p.bytes, uint64(p.off))
	}
	for o := p.off; o < p.off+Off(p.bytes); o += 8 {
		if other, taken := a.owner[o]; taken {
			a.t.Fatalf("%d bytes at %#x overlap what was handed out at %#x", p.bytes, uint64(p.off), uint64(other))
		}
		a.owner[o] = p.off
	}
	a.pieces = append(a.pieces, p)
}

func (a *allocModel) giveBack() {
	if len(a.pieces) == 0 {
		return
	}
	i := a.rng.IntN(len(a.pieces))
	p := a.pieces[i]
	a.pieces[i] = a.pieces[len(a.pieces)-1]
	a.pieces = a.pieces[:len(a.pieces)-1]
	for o := p.off; o < p.off+Off(p.bytes); o += 8 {
		delete(a.owner, o)
	}
	if p.run {
		a.r.ClearLiveRun(Extent{p.off, p.bytes})
		a.r.FreeRun(Extent{p.off, p.bytes})
		return
	}
	a.r.ClearLive(p.off)
	a.r.Free(p.off)
}

func (a *allocModel) check() {
	a.t.Helper()
	a.r.Check(func(o Off, msg string) { a.t.Errorf("%#x: %s", uint64(o), msg) })
	used := int64(0)
	for _, p := range a.pieces {
		used += p.bytes
	}
	if s := a.r.Stats(); s.UsedBytes != used || s.LiveBytes != used {
		a.t.Errorf("%d bytes are handed out, the region says %d used and %d live", used, s.UsedBytes, s.LiveBytes)
	}
}

// TestReserve: a full region has slabs left for those who give space back.
func TestReserve(t *testing.T) {
	m := mapOf(t, nvmap.NewMem(1<<20))
	r := mustOpen(t, m)
	class, _ := r.ClassFor(1000)
	fill := func(urgent bool) (n int, err error) {
		for {
			if _, err := r.AllocRecord(class, urgent); err != nil {
				return n, err
			}
			n++
		}
	}
	if n, err := fill(false); n == 0 || !errors.Is(err, ErrFull) {
		t.Fatalf("%d slots, then %v", n, err)
	}
	if got := r.Stats().FreeSlabs; got != reserveSlabs {
		t.Errorf("%d slabs are left of a full region, not %d", got, reserveSlabs)
	}
	n, err := fill(true)
	if want := reserveSlabs * (tinySlab / r.SlotBytes(class)); n != want || !errors.Is(err, ErrFull) {
		t.Errorf("the reserve held %d slots, then %v; want %d", n, err, want)
	}
}

// TestOffsetsFromTheMedium: whatever offset a medium names is refused or a slot.
func TestOffsetsFromTheMedium(t *testing.T) {
	m := mapOf(t, nvmap.NewMem(tinyBytes))
	r := mustOpen(t, m)
	class, _ := r.ClassFor(100)
	off := must(r.AllocRecord(class, false))
	if err := r.Touch(off); err != nil {
		t.Fatal(err)
	}
	for _, bad := range []Off{0, 1, 4096, off + 8, off - 1, r.geo.slabOff(0), Off(m.Size()), 1 << 47, ^Off(0)} {
		if err := r.Claim(bad, KindRecord); !errors.Is(err, ErrCorrupt) {
			t.Errorf("Claim(%#x) = %v", uint64(bad), err)
		}
		if _, ok := r.Describe(bad); ok {
			t.Errorf("Describe(%#x) finds a slot", uint64(bad))
		}
		s, inside := r.RecordSlab(bad), bad-r.geo.slabOff(r.geo.slabOf(off)) < Off(r.geo.slabBytes)
		if c := r.RecordAt(bad); (c.Bytes > 0) != inside || (s.Bytes > 0) != inside {
			t.Errorf("%#x lies in the record slab %+v, RecordAt says %+v", uint64(bad), s, c)
		}
		if r.IsUsed(bad) || r.IsLive(bad) {
			t.Errorf("%#x is in use", uint64(bad))
		}
	}
	if err := r.Claim(off, KindRecord); !errors.Is(err, ErrCorrupt) {
		t.Errorf("a second owner of %#x: %v", uint64(off), err)
	}
	if err := r.Claim(off, KindPage); !errors.Is(err, ErrCorrupt) {
		t.Errorf("a record slot as a page: %v", err)
	}
	if d, ok := r.Describe(off); !ok || d.Kind != KindRecord || d.SlotBytes != r.SlotBytes(class) {
		t.Errorf("Describe = %+v, %v", d, ok)
	} else if s := r.RecordSlab(off); s != (RecordSlab{off.Page().Off(), r.geo.slabBytes, d.SlotBytes, d.Carve}) {
		t.Errorf("RecordSlab = %+v, Describe says %+v", s, d)
	}
	for _, e := range []Extent{{0, 4096}, {off + 8, 4096}, {off.Page().Off(), 0}, {off.Page().Off(), 100}, {off.Page().Off(), -4096}, {off.Page().Off(), 1 << 60}, {^Off(0) &^ 4095, 4096}} {
		if err := r.CheckExtent(e); !errors.Is(err, ErrCorrupt) {
			t.Errorf("CheckExtent(%+v) = %v", e, err)
		}
	}
}
