package alloc

import "nvkv/nvmap"

// Kind is the use of a slab.
type Kind uint8

// These are the kinds. Their numbers are on the medium.
const (
	KindFree   Kind = iota // the slab is free
	KindRecord             // slots of one class, scanned by recovery
	KindPage               // index pages of nvmap.PageBytes
	KindBlock              // index blocks of BlockBytes
	KindRun                // pages handed out in runs, for large values
	kindCount
)

var kindNames = [kindCount]string{"free", "record", "page", "block", "run"}

func (k Kind) String() string {
	if k < kindCount {
		return kindNames[k]
	}
	return "unknown"
}

// BlockBytes is the slot size of KindBlock slabs.
const BlockBytes = 1024

// ClassID is an index into the table of record slot sizes.
type ClassID uint8

const minSlotBytes = 32

// classes returns the slot sizes of record slabs of slabBytes bytes: steps of 8 bytes up to 256,
// then sixteen steps to each doubling, and at the top a seventh, sixth, fifth and quarter of a
// slab. A record of random size wastes about 3 %.
func classes(slabBytes int) []int {
	var sizes []int
	top := slabBytes / 8
	for n := minSlotBytes; n <= min(256, top); n += 8 {
		sizes = append(sizes, n)
	}
	for base := 256; base < top; base *= 2 {
		for n := base + base/16; n <= min(2*base, top); n += base / 16 {
			sizes = append(sizes, n)
		}
	}
	for k := 7; k >= 4; k-- {
		sizes = append(sizes, slabBytes/k&^7)
	}
	return sizes
}

// classTable maps sizes to classes. lookup has one entry per 8 bytes.
type classTable struct {
	size   []int
	lookup []ClassID
}

func makeClassTable(slabBytes int) classTable {
	t := classTable{size: classes(slabBytes)}
	largest := t.size[len(t.size)-1]
	t.lookup = make([]ClassID, largest/8+1)
	c := 0
	for i := range t.lookup {
		if i*8 > t.size[c] {
			c++
		}
		t.lookup[i] = ClassID(c)
	}
	return t
}

// largest returns the largest slot size in bytes.
func (t *classTable) largest() int { return t.size[len(t.size)-1] }

// of returns the smallest class whose slots hold n bytes.
func (t *classTable) of(n int) (ClassID, bool) {
	if n < 0 || n > t.largest() {
		return 0, false
	}
	return t.lookup[(n+7)/8], true
}

// slotBytes returns the slot size of a slab of the given kind and class. It returns 0 if there is
// no such kind or class: the arguments come from the medium.
func (t *classTable) slotBytes(k Kind, c ClassID) int {
	switch {
	case k == KindRecord && int(c) < len(t.size):
		return t.size[c]
	case (k == KindPage || k == KindRun) && c == 0:
		return nvmap.PageBytes
	case k == KindBlock && c == 0:
		return BlockBytes
	}
	return 0
}
