package alloc

import (
	"bytes"
	"errors"
	"fmt"
	"testing"

	"nvkv/nvmap"
)

// filled returns the medium of a store with slabs of every kind, a checkpoint, and slabs that were
// never carved, and the checkpoint's generation and digest.
func filled(t *testing.T) (image []byte, checkpoint, digest uint64) {
	t.Helper()
	m := mapOf(t, nvmap.NewMem(tinyBytes))
	r := mustOpen(t, m)
	for c := range ClassID(3) {
		o := must(r.AllocRecord(c, false))
		r.SetLive(o)
		if err := r.Touch(o); err != nil {
			t.Fatal(err)
		}
	}
	r.SetLive(must(r.AllocPage(false)).Off())
	r.SetLive(must(r.AllocBlock(false)))
	r.SetLiveRun(must(r.AllocRuns(3*4096, 4))[0])
	maps, g := r.FreezeMaps(), r.Generation()+1
	if err := errors.Join(r.WriteMaps(maps, g), m.Fence(), r.WriteSuper(nil)); err != nil {
		t.Fatal(err)
	}
	r.CountMaps(maps)
	return bytes.Clone(m.View(0, int(m.Size()))), g, r.digest
}

// mapOfImage returns a map whose device holds an image.
func mapOfImage(t *testing.T, image []byte) *nvmap.Map {
	t.Helper()
	dev := nvmap.NewMem(tinyBytes)
	if err := errors.Join(dev.Grow(int64(len(image))), dev.Write(0, image)); err != nil {
		t.Fatal(err)
	}
	return mapOf(t, dev)
}

// liveSlots returns the live slots of all maps as text.
func (r *Region) liveSlots() (live string) {
	for i := range r.slabs {
		live += fmt.Sprintln(i, r.slabs[i].kind, r.slabs[i].live)
	}
	return live
}

// TestZeroedMetadata zeroes, fills, or exchanges with its successor each line of the metadata of a
// group. Each change must be refused, be reported, or have no effect.
func TestZeroedMetadata(t *testing.T) {
	image, checkpoint, digest := filled(t)
	r, err := Open(mapOfImage(t, image))
	if err != nil {
		t.Fatal(err)
	}
	if got, _, err := r.LoadMaps(checkpoint); got != digest || err != nil {
		t.Fatalf("digest %#x, %v; want %#x", got, err, digest)
	}
	want := r.liveSlots()
	end := int(r.geo.mapOff(r.geo.groupSlabs-1, 1)) + r.geo.mapBytes
	outcomes := map[string]int{}
	for at := int(r.geo.groupOff(0)); at < end; at += 64 {
		next := image[at+64 : at+128]
		for name, with := range map[string][]byte{"zeroed": make([]byte, 64), "filled": bytes.Repeat([]byte{0xff}, 64), "exchanged": next} {
			b := bytes.Clone(image)
			if name == "exchanged" {
				copy(b[at+64:], image[at:at+64])
			}
			copy(b[at:], with)
			if bytes.Equal(b, image) {
				continue
			}
			what := outcome(t, b, checkpoint, digest, want)
			outcomes[name+" "+what]++
			if what == "WRONG" {
				t.Errorf("line at %#x %s: slots went without a word", at, name)
			}
		}
	}
	t.Log(outcomes)
}

func outcome(t *testing.T, image []byte, checkpoint, digest uint64, want string) string {
	t.Helper()
	r, err := Open(mapOfImage(t, image))
	if errors.Is(err, ErrCorrupt) {
		return "refused"
	}
	if err != nil {
		t.Fatal(err)
	}
	got, unclean, err := r.LoadMaps(checkpoint)
	switch {
	case err != nil:
		t.Fatal(err)
	case got != digest:
		r.ForgetMaps(unclean)
		if r.Check(func(Off, string) {}) == 0 {
			return "WRONG"
		}
		return "maps not believed"
	case r.liveSlots() != want:
		return "WRONG"
	case len(r.headBad) > 0:
		return "named"
	}
	return "harmless"
}

// TestLostWrites checks that a lost write of a map shows in the digest, and a lost write of a
// descriptor in the map that counts.
func TestLostWrites(t *testing.T) {
	image, checkpoint, digest := filled(t)
	r, err := Open(mapOfImage(t, image))
	if err != nil {
		t.Fatal(err)
	}
	fresh := groupMeta(&r.geo, r.id, 0)
	base := int(r.geo.groupOff(0))
	lost := func(o Off, n int) []byte {
		b := bytes.Clone(image)
		copy(b[o:int(o)+n], fresh[int(o)-base:])
		return b
	}
	for i := r.geo.metaSlabs; i < r.geo.groupSlabs; i++ {
		if r.slabs[i].kind == KindFree {
			continue
		}
		for place := range 2 {
			o := r.geo.mapOff(i, place)
			b := lost(o, r.geo.mapBytes)
			if bytes.Equal(b, image) {
				continue
			}
			if what := outcome(t, b, checkpoint, digest, ""); what != "maps not believed" {
				t.Errorf("map of slab %d lost: %s", i, what)
			}
		}
		again, err := Open(mapOfImage(t, lost(r.geo.descOff(i), descBytes)))
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := again.LoadMaps(checkpoint); err != nil {
			t.Fatal(err)
		}
		got, want := &again.slabs[i], &r.slabs[i]
		if got.kind != want.kind || got.class != want.class || got.carve != want.carve || len(again.headBad) != 1 {
			t.Errorf("descriptor of slab %d lost: %v %d %d, %v", i, got.kind, got.class, got.carve, again.headBad)
		}
	}
}

// TestGroupIsWrittenOnce checks that a group is written with one write before the size word
// includes it, and needs no fence of its own.
func TestGroupIsWrittenOnce(t *testing.T) {
	dev := nvmap.NewSim(nvmap.NewMem(64 << 20))
	m := mapOf(t, dev)
	if err := Format(m, Options{}); err != nil {
		t.Fatal(err)
	}
	r, err := Open(m)
	if err != nil {
		t.Fatal(err)
	}
	r.Ready()
	var bytes []int
	dev.OnWrite(func(_ nvmap.Off, n int) { bytes = append(bytes, n) })
	fences := dev.Fences()
	if err := r.grow(3 * r.geo.groupSlabs); err != nil {
		t.Fatal(err)
	}
	if fences = dev.Fences() - fences; fences != 2 {
		t.Errorf("%d fences, want 2", fences)
	}
	meta := len(groupMeta(&r.geo, r.id, 0))
	if want := fmt.Sprint([]int{meta, meta, meta, meta, 8}); fmt.Sprint(bytes) != want || meta > 40<<10 {
		t.Errorf("writes of %d bytes, want %s", bytes, want)
	}
}

// TestLostSizeWord checks that slabs beyond the size word with a mark of this interval reveal a
// lost write of the size word.
func TestLostSizeWord(t *testing.T) {
	m := mapOf(t, nvmap.NewMem(tinyBytes))
	r := mustOpen(t, m)
	if err := r.grow(1); err != nil {
		t.Fatal(err)
	}
	before := len(r.slabs)
	if err := r.grow(2 * r.geo.groupSlabs); err != nil {
		t.Fatal(err)
	}
	r.freeHint = before
	o := must(r.AllocRecord(0, false))
	if err := r.Touch(o); err != nil {
		t.Fatal(err)
	}
	if err := writeWord(m, headSizeOff, packSize(before)); err != nil {
		t.Fatal(err)
	}
	for interval, want := range map[uint64]error{1: ErrCorrupt, 2: nil} {
		again, err := OpenUnread(m)
		if err != nil {
			t.Fatal(err)
		}
		again.SetInterval(interval)
		if err := again.ReadSlabs(); !errors.Is(err, want) || (err == nil) != (want == nil) {
			t.Errorf("interval %d: slab of %#x behind %d: %v", interval, uint64(o), before, err)
		}
	}
}
