package record

import (
	"encoding/binary"
	"iter"

	"nvkv/alloc"
	"nvkv/nvmap"
)

// The bytes of a large value, and of its key if that is long too, lie in runs of pages: the extents
// of a run list, each filled before the next. The list lies in the record's slot. A list that does
// not fit the slot lies in runs itself, and the slot holds the list of those runs, and so on: these
// are the levels. Format: docs/format.md, "Run list".
//
//	checksum of the bytes in the extents 4 | level 1 | zero 1 | extents 4
//	offset 6 | pages 4    for each extent
//
// The extents of a list of level 0 hold the record's bytes. Those of level n hold a list of level
// n-1.
const (
	ListHeaderBytes = 10
	runEntryBytes   = 10

	// MaxListLevels is the highest level of a list. A value of 1 GiB in single pages needs level 2
	// where slots are smallest.
	MaxListLevels = 3
)

// RunListBytes returns the length in bytes of the list at the beginning of b, which may exceed
// len(b). It returns false if no list begins there.
func RunListBytes(b []byte) (n int64, ok bool) {
	if len(b) < ListHeaderBytes || b[4] > MaxListLevels || b[5] != 0 {
		return 0, false
	}
	return ListBytes(int64(binary.LittleEndian.Uint32(b[6:]))), true
}

// ListBytes returns the length in bytes of a list with this number of extents.
func ListBytes(extents int64) int64 { return ListHeaderBytes + runEntryBytes*extents }

// ExtentsIn returns how many extents a list of n bytes can have at most.
func ExtentsIn(n int) int64 { return int64(n-ListHeaderBytes) / runEntryBytes }

// AppendRunList appends a list of a level. sum is the checksum of the bytes in the extents.
func AppendRunList(dst []byte, sum uint32, level int, extents []alloc.Extent) []byte {
	le := binary.LittleEndian
	dst = le.AppendUint32(dst, sum)
	dst = append(dst, byte(level), 0)
	dst = le.AppendUint32(dst, uint32(len(extents)))
	for _, e := range extents {
		dst = le.AppendUint32(dst, uint32(e.Off))
		dst = le.AppendUint16(dst, uint16(e.Off>>32))
		dst = le.AppendUint32(dst, uint32(e.Bytes/nvmap.PageBytes))
	}
	return dst
}

// RunList is the decoded run list of a record, with the lists below it.
type RunList struct {
	Sum     uint32         // of the bytes in the extents of Data
	Extents []alloc.Extent // all extents: first those that hold lists, then those of Data
	lists   int            // how many extents hold lists
}

// Listing returns the extents that hold lists.
func (l *RunList) Listing() []alloc.Extent { return l.Extents[:l.lists] }

// Data returns the extents that hold the record's bytes, in their order.
func (l *RunList) Data() []alloc.Extent { return l.Extents[l.lists:] }

// ListPages yields the pages that hold lists.
func (l *RunList) ListPages() iter.Seq[nvmap.Off] { return PagesIn(l.Listing()) }

// PagesIn yields the pages of extents.
func PagesIn(extents []alloc.Extent) iter.Seq[nvmap.Off] {
	return func(yield func(nvmap.Off) bool) {
		for _, e := range extents {
			for o := e.Off; o < e.Off+nvmap.Off(e.Bytes); o += nvmap.PageBytes {
				if !yield(o) {
					return
				}
			}
		}
	}
}

// ReadLists reads the run list of a record and the lists below it. The device has size bytes; read
// returns n bytes at an offset, or nil if it cannot.
//
// No other function reads lists. This one trusts no byte: it reads at most MaxListLevels lists
// below each other, it verifies the checksum of each, and it refuses a list that names more pages
// than its content fills. So the length of the value bounds the bytes that it reads and allocates.
// If it finds damage it returns false and what it has read before.
func (r *Record) ReadLists(size int64, read func(nvmap.Off, int) []byte) (l RunList, ok bool) {
	if !r.Spilled() || r.SpilledBytes() > size {
		return l, false
	}
	b := r.List
	level := int(b[4])
	most := listBounds(r.SpilledBytes())
	for ; ; level-- {
		sum := binary.LittleEndian.Uint32(b)
		extents, pages := decodeExtents(b, most[level], size)
		if extents == nil || level == 0 && pages != most[0] {
			return l, false
		}
		l.Extents = append(l.Extents, extents...)
		if level == 0 {
			l.Sum = sum
			return l, true
		}
		l.lists = len(l.Extents)
		if b = lowerList(read, extents, pages, level-1); b == nil || BodySum(b) != sum {
			return l, false
		}
	}
}

// listBounds returns for each level how many pages the extents of a list can name at most, if those
// of level 0 hold n bytes.
func listBounds(n int64) (most [MaxListLevels + 1]int64) {
	for level := range most {
		most[level] = wholePages(n)
		n = ListBytes(most[level])
	}
	return most
}

func wholePages(n int64) int64 { return (n + nvmap.PageBytes - 1) / nvmap.PageBytes }

// decodeExtents returns the extents of the list b and the number of their pages. It returns nil if
// there are more than most pages, or if an extent is not inside a device of size bytes.
func decodeExtents(b []byte, most, size int64) (out []alloc.Extent, pages int64) {
	le := binary.LittleEndian
	n := le.Uint32(b[6:])
	if int64(n) > most {
		return nil, 0
	}
	out = make([]alloc.Extent, n)
	for i := range out {
		x := b[ListHeaderBytes+runEntryBytes*i:]
		e := alloc.Extent{
			Off:   nvmap.Off(le.Uint32(x)) | nvmap.Off(le.Uint16(x[4:]))<<32,
			Bytes: int64(le.Uint32(x[6:])) * nvmap.PageBytes,
		}
		out[i] = e
		if pages += e.Bytes / nvmap.PageBytes; e.Bytes == 0 || pages > most || e.Off%nvmap.PageBytes != 0 || int64(e.Off) > size-e.Bytes {
			return nil, 0
		}
	}
	return out, pages
}

// lowerList reads a list of a level out of the extents that hold it. It returns nil if they hold no
// list that fills this number of pages.
func lowerList(read func(nvmap.Off, int) []byte, extents []alloc.Extent, pages int64, level int) []byte {
	if len(extents) == 0 {
		return nil
	}
	n, ok := RunListBytes(read(extents[0].Off, ListHeaderBytes))
	if !ok || wholePages(n) != pages {
		return nil
	}
	b := make([]byte, 0, n)
	for _, e := range extents {
		piece := read(e.Off, int(min(e.Bytes, n-int64(len(b)))))
		if piece == nil {
			return nil
		}
		b = append(b, piece...)
	}
	if again, ok := RunListBytes(b); !ok || again != n || int(b[4]) != level {
		return nil
	}
	return b
}
