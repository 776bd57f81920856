package alloc

import (
	"path/filepath"
	"slices"
	"testing"

	"nvkv/internal/layout"
	"nvkv/nvmap"
)

const formatDoc = "../docs/format.md"

// formatMap returns the map of a new store of tiny slabs with a fixed id.
func formatMap(t *testing.T) *nvmap.Map {
	t.Helper()
	dev := nvmap.NewMem(1 << 24)
	m, err := nvmap.NewMap(dev, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	if err := Format(m, Options{SlabBytes: 4096, GroupSlabs: 8, Payload: []byte("payload")}); err != nil {
		t.Fatal(err)
	}
	head := make([]byte, (1+superSlots)*nvmap.PageBytes)
	if err := dev.Read(0, head); err != nil {
		t.Fatal(err)
	}
	layout.SetStoreID(head, [16]byte([]byte("a fixed store id")))
	if err := m.Write(0, head); err != nil {
		t.Fatal(err)
	}
	return m
}

// TestFormat writes a small region by hand, decodes its bytes by the tables of docs/format.md, and
// compares them with testdata/format.
func TestFormat(t *testing.T) {
	m := formatMap(t)
	r, err := Open(m)
	if err != nil {
		t.Fatal(err)
	}
	r.SetInterval(7)
	r.Ready()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	take := func(o Off, err error) Off {
		t.Helper()
		must(err)
		r.SetLive(o)
		return o
	}
	first := take(r.AllocRecord(2, false)) // 48 bytes
	take(r.AllocRecord(2, false))
	must(r.Touch(first))
	page, err := r.AllocPage(false)
	take(page.Off(), err)
	take(r.AllocBlock(false))
	runs, err := r.AllocRuns(9000, 4)
	must(err)
	for _, e := range runs {
		r.SetLiveRun(e)
	}
	checkpoint := func(payload string) {
		t.Helper()
		maps := r.FreezeMaps()
		must(r.WriteMaps(maps, r.Generation()+1))
		must(m.Fence())
		must(r.WriteSuper([]byte(payload)))
		r.CountMaps(maps)
	}
	checkpoint("first checkpoint")
	r.ClearLive(first)
	r.Free(first)
	checkpoint("second checkpoint")

	doc := layout.Read(t, formatDoc)
	d := layout.NewDump(t, doc, slices.Clone(m.View(0, int(m.Size()))))
	space := d.Space()
	if digest := space.LoadMaps(r.Generation()); digest != r.digest {
		t.Errorf("digest of the maps %#x, should be %#x", r.digest, digest)
	}
	d.Unexplained()
	d.Golden(filepath.Join("testdata", "format"))

	live := 0
	for _, s := range space.Slabs {
		for k := range s.Slots(&space.Geometry) {
			if s.Live(k) {
				live += s.SlotBytes
			}
		}
	}
	if want := r.Stats().LiveBytes; int64(live) != want {
		t.Errorf("the maps say %d bytes are live, the region %d", live, want)
	}
}

// TestFormatConstants checks that the offsets in the document are those of the code.
func TestFormatConstants(t *testing.T) {
	doc := layout.Read(t, formatDoc)
	for _, f := range []struct {
		table, field string
		off          int
	}{
		{"Head", "magic", headMagicOff}, {"Head", "size", headSizeOff},
		{"Superblock", "payload", superHeaderSize},
		{"Descriptor", "identity", descIdentity}, {"Descriptor", "mark", descMark}, {"Descriptor", "identity copy", descCopy},
	} {
		if got := doc.Off(t, f.table, f.field); got != f.off {
			t.Errorf("%s of %s: %d in the document, %d in the code", f.field, f.table, got, f.off)
		}
	}
	for table, size := range map[string]int{
		"Head": nvmap.PageBytes, "Superblock": nvmap.PageBytes, "Group header": groupHeaderSize,
		"Descriptor": descBytes, "Map place": mapHeaderSize,
	} {
		if got := doc.Size(t, table); got != size {
			t.Errorf("%s: %d bytes in the document, %d in the code", table, got, size)
		}
	}
}

// TestFormatClasses checks that the slot sizes and places in the document are those of the code,
// for every slab size.
func TestFormatClasses(t *testing.T) {
	doc := layout.Read(t, formatDoc)
	d := layout.NewDump(t, doc, nil)
	for slab := 4096; slab <= 1<<20; slab *= 2 {
		for _, group := range []int{8, 64, 65536} {
			geo, err := makeGeometry(slab, group)
			if err != nil {
				continue // the metadata is too large
			}
			said := d.Geometry(slab, group)
			if said.First != geo.superBytes || said.MetaSlabs != geo.metaSlabs || said.MapBytes != geo.mapBytes {
				t.Errorf("slabs of %d, %d in a group: the document says %+v, the code %+v", slab, group, said, geo)
			}
		}
		said := d.Geometry(slab, 64)
		for c, size := range classes(slab) {
			if got := said.SlotBytes(layout.Records, c); got != size {
				t.Errorf("slabs of %d: class %d has %d bytes in the document, %d in the code", slab, c, got, size)
			}
		}
		if n := len(classes(slab)); said.SlotBytes(layout.Records, n) != 0 {
			t.Errorf("slabs of %d: more than %d classes in the document", slab, n)
		}
	}
}
