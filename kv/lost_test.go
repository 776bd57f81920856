package kv

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"nvkv/alloc"
	"nvkv/internal/effort"
	"nvkv/nvmap"
)

// Writes that the medium lost: a line or a sector has its content of an earlier fence, and
// everything else is as written. Its checksum and its place are right. Only the structure that
// names it can tell: the digest of the maps, a descriptor's map, the births in the index, the pair
// of a superblock. docs/reliability.md lists the losses that nothing tells.

// lossyMedium remembers the contents of lines and sectors at earlier fences.
type lossyMedium struct {
	*rotMedium
	fenced []byte                 // content at the last fence
	since  map[int]bool           // lines written since
	before map[stretchOf][][]byte // newest last
}

// versionsMost bounds how many earlier contents of a stretch are kept.
const versionsMost = 3

func newLossyMedium(t testing.TB) *lossyMedium {
	return &lossyMedium{rotMedium: newRotMedium(t, 4<<20), since: map[int]bool{}, before: map[stretchOf][][]byte{}}
}

func (m *lossyMedium) Write(off nvmap.Off, p []byte) error {
	for at := int(off) &^ 63; at < int(off)+len(p); at += 64 {
		m.since[at] = true
	}
	return m.rotMedium.Write(off, p)
}

func (m *lossyMedium) Fence() error {
	err := m.rotMedium.Fence()
	m.note()
	return err
}

// note saves the contents that the last fence replaced.
func (m *lossyMedium) note() {
	now := make([]byte, m.Size())
	_ = m.Read(0, now)
	m.fenced = append(m.fenced, make([]byte, len(now)-min(len(now), len(m.fenced)))...)
	for at := range m.since {
		for _, s := range []stretchOf{{at: at, n: 64}, {at: at &^ 4095, n: 4096}} {
			old := m.fenced[s.at : s.at+s.n]
			list := m.before[s]
			if bytes.Equal(old, now[s.at:s.at+s.n]) || len(list) > 0 && bytes.Equal(list[len(list)-1], old) {
				continue
			}
			list = append(list, bytes.Clone(old))
			m.before[s] = list[max(0, len(list)-versionsMost):]
		}
	}
	clear(m.since)
	m.fenced = now
}

// structureAt returns which structure is at an offset of a tiny store.
func structureAt(r *alloc.Region, at int) string {
	const supers, group, header, descriptors = 5 * 4096, 64 * 4096, 64, 64 * 64
	switch tinyArea(at) {
	case areaHead:
		return "head"
	case areaSupers:
		return "superblock"
	case areaGroups:
		switch in := (at - supers) % group; {
		case in < header:
			return "group header"
		case in < header+descriptors:
			return "descriptor"
		}
		return "map"
	}
	for s := range r.Slabs() {
		if at >= int(s.Off) && at < int(s.Off)+4096 {
			return s.Kind.String()
		}
	}
	return "free slab"
}

// uncaught are the structures whose lost writes are not detected, in a store that died: records
// since the checkpoint, and the marks that lead to them. A group header shares its sector with
// descriptors.
var uncaught = map[bool][]string{
	true:  nil,
	false: {"record", "descriptor", "group header"},
}

// TestLostWritesOfAStore gives lines and sectors of a store their earlier contents.
func TestLostWritesOfAStore(t *testing.T) {
	skipInRace(t)
	one, operations := effort.Pick(12, 8, 3, 1), effort.Pick(20, 20, 40, 400)
	for _, closed := range []bool{true, false} {
		t.Run(fmt.Sprint("closed=", closed), func(t *testing.T) {
			t.Parallel()
			m := newLossyMedium(t)
			h := tinyStoreOn(t, m, closed)
			image := m.bytes(t)
			m.hold(t, image)
			o := rotOptions()
			o.ReadOnly = true
			db, err := OpenDevice(m.rotMedium, o)
			must(t, err)
			tally := map[string]map[string]int{}
			structures := map[int]string{}
			for s := range m.before {
				structures[s.at] = structureAt(db.r, s.at)
			}
			abandon(db)
			stretches := slices.SortedFunc(maps.Keys(m.before), func(a, b stretchOf) int {
				return (a.at-b.at)*2 + (a.n-b.n)/4096
			})
			for i, s := range stretches {
				if s.n == 64 && i%one != 0 {
					continue
				}
				for n, old := range m.before[s] {
					if bytes.Equal(old, image[s.at:s.at+s.n]) {
						continue
					}
					must(t, m.restore())
					must(t, m.rotMedium.Write(nvmap.Off(s.at), old))
					u, err := inBounds(func() (*spoiled, error) { return m.use(h, operations) })
					what, in := "harmless", structures[s.at]
					switch {
					case err != nil:
						what = "SILENT"
						if !slices.Contains(uncaught[closed], in) || strings.Contains(err.Error(), "panic") {
							t.Errorf("%d bytes at %#x, %s, as they were %d writes before: %.1500v", s.n, s.at, in, len(m.before[s])-n, err)
						}
					case u.refused:
						what = "refused"
					case len(u.places) > 0:
						what = "named"
					}
					if tally[in] == nil {
						tally[in] = map[string]int{}
					}
					tally[in][what]++
				}
			}
			for _, in := range slices.Sorted(maps.Keys(tally)) {
				t.Logf("%-12s %v", in, tally[in])
			}
		})
	}
}
