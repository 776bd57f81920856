package alloc

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"nvkv/internal/effort"
	"nvkv/nvmap"
)

// piece is an allocated slot, page, block or run.
type piece struct {
	off   Off
	bytes int64
	run   bool
}

// TestModelRandom allocates and frees at random until the device is full, and longer. No pieces may
// overlap, all must lie in data slabs, the counts must agree, and live pieces must be there after
// opening again.
func TestModelRandom(t *testing.T) {
	for seed := range effort.Pick[uint64](2, 4, 8, 8) {
		slabBytes := 4096 << (seed % 4)
		t.Run(fmt.Sprintf("seed=%d,slab=%d", seed, slabBytes), func(t *testing.T) {
			modelRun(t, rand.New(rand.NewPCG(seed, 3)), slabBytes)
		})
	}
}

// allocModel compares a region with a model of it.
type allocModel struct {
	t      *testing.T
	rng    *rand.Rand
	r      *Region
	pieces []piece
	owner  map[Off]Off // owner of each 8 bytes
	full   int         // number of refusals
}

func modelRun(t *testing.T, rng *rand.Rand, slabBytes int) {
	m := mapOf(t, nvmap.NewMem(2<<20))
	if err := Format(m, Options{SlabBytes: slabBytes, GroupSlabs: 16}); err != nil {
		t.Fatal(err)
	}
	a := &allocModel{t: t, rng: rng, owner: map[Off]Off{}}
	a.open(m, 0)
	for round := range 6 {
		give := 70 - 10*round // per cent; the device becomes full first, and empty last
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
	if _, unclean, err := r.LoadMaps(checkpoint); err != nil || len(unclean) > 0 {
		a.t.Fatalf("unclean %v, %v", unclean, err)
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

// checkpoint makes the live slots durable and returns its generation.
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
		if err == nil { // an urgent caller may get a larger one
			_, size, _ := a.r.Carve(p.off, KindRecord)
			p.bytes = int64(size)
		}
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

// refused reports whether there was no room. Any other error fails the test.
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

// TestReserve checks that a full region has slabs left for urgent callers.
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
	if got := r.Stats().FreeSlabs; got != minKept {
		t.Errorf("%d slabs are left of a full region, not %d", got, minKept)
	}
	n, err := fill(true)
	if want := minKept * (tinySlab / r.SlotBytes(class)); n != want || !errors.Is(err, ErrFull) {
		t.Errorf("the reserve held %d slots, then %v; want %d", n, err, want)
	}
}

// TestA13_KeptForThoseWhoGiveSpaceBack checks that urgent callers can use the kept room of a full
// region, step by step. Pages and blocks return when the ones that they replaced are freed, and
// slabs when their records are.
func TestA13_KeptForThoseWhoGiveSpaceBack(t *testing.T) {
	m := mapOf(t, nvmap.NewMem(4<<20))
	r := mustOpen(t, m)
	r.SetNeed(Need{Pages: 20, Blocks: 12, RunPages: 3})
	class, _ := r.ClassFor(1000)
	small, _ := r.ClassFor(40)
	var pages []Off
	for n := 0; ; n++ { // until nothing is left
		_, err1 := r.AllocRecord(class, false)
		p, err2 := r.AllocPage(false)
		_, err3 := r.AllocBlock(false)
		if err2 == nil {
			r.SetLive(p.Off())
			pages = append(pages, p.Off())
		}
		if errors.Is(err1, ErrFull) && errors.Is(err2, ErrFull) && errors.Is(err3, ErrFull) {
			break
		}
	}
	free := r.Stats().FreeSlabs
	for round := range 10 {
		var taken []Off
		take := func(o Off, err error) {
			if err != nil {
				t.Fatalf("round %d: %v", round, err)
			}
			taken = append(taken, o)
		}
		for i := range 20 { // each page replaces one
			p, err := r.AllocPage(true)
			take(p.Off(), err)
			r.SetLive(p.Off())
			r.ClearLive(pages[i])
		}
		for range 12 {
			take(r.AllocBlock(true))
		}
		take(r.AllocRecord(small, true))
		runs, err := r.AllocRunsUrgent(3*nvmap.PageBytes, 3)
		if err != nil {
			t.Fatal(err)
		}
		for {
			if _, err := r.AllocRecord(small, false); errors.Is(err, ErrFull) {
				break // other callers get no slot of that record's slab
			}
		}
		if _, err := r.AllocPage(false); !errors.Is(err, ErrFull) {
			t.Errorf("round %d: a page for anybody: %v", round, err)
		}
		for i, o := range taken { // a checkpoint
			if i < 20 {
				o, pages[i] = pages[i], o
			}
			r.Free(o)
		}
		for _, e := range runs {
			r.FreeRun(e)
		}
		if r.keptSlabs != 0 {
			t.Errorf("round %d: %d slabs are kept that hold nothing", round, r.keptSlabs)
		}
	}
	if got := r.Stats().FreeSlabs; got < free-slabsFor(20, r.slabPages())-slabsFor(12, r.slabBlocks()) {
		t.Errorf("%d free slabs, %d to begin with", got, free)
	}
	r.Check(func(o Off, what string) { t.Errorf("%#x: %s", o, what) })
}

// TestA13_OthersWaitForTheCheckpoint checks that other callers cannot take pages and blocks in
// place of the kept ones that urgent callers took, even if slabs have free ones: after the
// checkpoint has freed the replaced ones, they would be missing.
func TestA13_OthersWaitForTheCheckpoint(t *testing.T) {
	r := mustOpen(t, mapOf(t, nvmap.NewMem(4<<20)))
	r.SetNeed(Need{Pages: 20, Blocks: 12})
	large, _ := r.ClassFor(1000)
	fill := func() (pages, blocks int) {
		for more := true; more; {
			_, err1 := r.AllocRecord(large, false)
			_, err2 := r.AllocPage(false)
			_, err3 := r.AllocBlock(false)
			if err2 == nil {
				pages++
			}
			if err3 == nil {
				blocks++
			}
			more = err1 == nil || err2 == nil || err3 == nil
		}
		return pages, blocks
	}
	fill()
	for round := range 20 {
		var taken []Off
		for range 3 + round%5 {
			p, err := r.AllocPage(true)
			b, err2 := r.AllocBlock(true)
			if err != nil || err2 != nil {
				t.Fatalf("round %d: what is kept: %v, %v", round, err, err2)
			}
			taken = append(taken, p.Off(), b)
		}
		if p, b := fill(); p+b > 0 {
			t.Errorf("round %d: others got %d pages and %d blocks", round, p, b)
		}
		for _, o := range taken { // a checkpoint frees as many
			r.Free(o)
		}
	}
	if got, want := r.freeSlabs, r.missing(KindPage, 0)+r.missing(KindBlock, 0)+r.missingSlabs(); got < want {
		t.Errorf("%d slabs are free, %d are kept", got, want)
	}
}

// TestUrgentRecordsOfManySizes checks that the kept room holds records of many sizes together,
// although there is no slab for each size.
func TestUrgentRecordsOfManySizes(t *testing.T) {
	r := mustOpen(t, mapOf(t, nvmap.NewMem(4<<20)))
	r.SetNeed(Need{Pages: 20, Blocks: 12, RecordBytes: 2 * tinySlab})
	for c := range r.table.size {
		for {
			if _, err := r.AllocRecord(ClassID(c), false); err != nil {
				break
			}
		}
	}
	most, ok := r.ClassFor(tinySlab / 16)
	if !ok || most < 9 {
		t.Fatalf("class %d", most)
	}
	for c := int(most); c >= 0; c-- { // the largest first
		o, err := r.AllocRecord(ClassID(c), true)
		if err != nil {
			t.Fatalf("a slot of class %d, %d below %d have theirs: %v", c, int(most)-c, most, err)
		}
		if _, size, _ := r.Carve(o, KindRecord); size < r.SlotBytes(ClassID(c)) {
			t.Fatalf("a slot of %d bytes for %d", size, r.SlotBytes(ClassID(c)))
		}
	}
}

// TestOffsetsFromTheMedium checks that every offset from the medium is refused or is a slot.
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
