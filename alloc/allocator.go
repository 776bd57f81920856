package alloc

import "errors"

// An Allocator hands out pieces of a map and remembers one offset, the root,
// from which its user finds everything else.
//
// Which pieces are handed out is known in DRAM only, so that Alloc and Free
// cost no fence. After a crash the user says what the root reaches, and the rest
// is free: a piece that was allocated and not yet linked is not lost, nor one
// that was unlinked and not yet freed.
//
// That leaves the user one order to keep:
//
//   - to link a piece: write it, fence, then store the offset of it in one
//     aligned word of 8 bytes, or with SetRoot, which fences by itself;
//   - to free a piece: unlink it, fence, then Free.
//
// A7. Everything written before SetRoot is fenced before the root is stored, and
// the root is one word: a crash leaves the old root or the new one, and whole is
// what either leads to.
//
// An Allocator is not safe for concurrent use: what it is called under is also
// what the map's Write is called under.
type Allocator interface {
	// Alloc returns the offset of n bytes, n > 0, that are aligned to 8 and
	// hold anything. ErrFull: there is no room; ErrSize: there never will be.
	// The piece may be linked after the next fence.
	Alloc(n int) (Off, error)

	// Free takes back what begins at o. The caller proves that nothing on the
	// medium leads there any more. ErrNotAllocated: no piece begins there.
	Free(o Off) error

	// Root returns the offset last set, 0 for none.
	Root() Off

	// SetRoot makes everything written before durable, and then o the root, at
	// one instant and durably. After an error nobody knows which root the
	// medium has, and the allocator refuses until it is opened again.
	SetRoot(o Off) error

	// Recover begins the use of an allocator that was opened: before it, Alloc
	// and Free return ErrNotRecovered. walk calls keep for every piece that the
	// root reaches, with the n that it was allocated with; everything else is
	// free then. A piece that cannot be one, or that overlaps another, is
	// ErrCorrupt from keep. An error that walk returns is that of Recover.
	Recover(walk func(keep func(o Off, n int) error) error) error
}

// Errors of an Allocator, for errors.Is.
var (
	ErrSize         = errors.New("nvkv: no piece of that size")
	ErrNotAllocated = errors.New("nvkv: not allocated")
	ErrNotRecovered = errors.New("nvkv: allocator not recovered")
)

// packRoot packs an offset with check bits, so that rot is not followed.
func packRoot(o Off) uint64 { return uint64(o)<<16 | check16(uint64(o)+2) }

func unpackRoot(w uint64) (o Off, ok bool) {
	return Off(w >> 16), w&0xffff == check16(w>>16+2)
}
