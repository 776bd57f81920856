package alloc

import "errors"

// An Allocator hands out pieces of a map and stores one offset, the root, from which its user finds
// everything else.
//
// The allocator records only in DRAM which pieces are handed out, so Alloc and Free cost no fence.
// After a crash the user reports the pieces that the root reaches, and the rest is free. So a crash
// loses neither a piece that was allocated and not yet linked, nor a piece that was unlinked and
// not yet freed.
//
// The user must keep this order:
//
//   - to link a piece: write it, fence, then store its offset in one aligned word of 8 bytes, or
//     with SetRoot, which fences by itself;
//   - to free a piece: unlink it, fence, then call Free.
//
// A7. Everything written before SetRoot is fenced before the root is stored, and the root is one
// word. A crash leaves the old root or the new one, and the data that either reaches is whole.
//
// An Allocator is not safe for concurrent use: the lock that guards it must also guard the map's
// Write.
type Allocator interface {
	// Alloc returns the offset of n bytes, n > 0, that are aligned to 8 and have undefined
	// contents. ErrFull: there is no room now. ErrSize: n is more than the allocator can ever hand
	// out. The piece may be linked after the next fence.
	Alloc(n int) (Off, error)

	// Free takes back the piece that begins at o. The caller ensures that nothing on the medium
	// refers to it any more. ErrNotAllocated: no piece begins there.
	Free(o Off) error

	// Root returns the offset last set, or 0.
	Root() Off

	// SetRoot makes everything written before durable, and then stores o as the root, atomically
	// and durably. After an error it is unknown which root the medium has, and all calls fail until
	// the allocator is opened again.
	SetRoot(o Off) error

	// Recover must be the first call after opening: before it, Alloc and Free return
	// ErrNotRecovered. walk calls keep for every piece that the root reaches, with the size n that
	// was allocated. Everything else is then free. keep returns ErrCorrupt for a piece that cannot
	// exist or that overlaps another. Recover returns the error of walk.
	Recover(walk func(keep func(o Off, n int) error) error) error
}

// These errors of an Allocator are for errors.Is.
var (
	ErrSize         = errors.New("nvkv: no piece of that size")
	ErrNotAllocated = errors.New("nvkv: not allocated")
	ErrNotRecovered = errors.New("nvkv: allocator not recovered")
)

// packRoot packs an offset with check bits, so that a damaged root is detected.
func packRoot(o Off) uint64 { return uint64(o)<<16 | check16(uint64(o)+2) }

func unpackRoot(w uint64) (o Off, ok bool) {
	return Off(w >> 16), w&0xffff == check16(w>>16+2)
}
