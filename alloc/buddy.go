package alloc

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
	"slices"

	"nvkv/nvmap"
)

// Buddy is a second [Allocator], and one of the simplest that survive a crash. It hands out powers
// of two, splits larger pieces into halves, and joins the halves again when both are free. The
// medium holds a magic word and the root, and no record of the allocated pieces.
//
// It wastes up to half of a piece, and Free takes time proportional to the number of free pieces.
// It suits structures of a few thousand pieces, and serves as an example of an Allocator.
type Buddy struct {
	m    *nvmap.Map
	root Off
	used map[Off]int              // order of each piece in use
	free [buddyMaxOrder + 1][]Off // free pieces by order, ascending
	end  Off                      // end of the last chunk
	err  error                    // why the allocator cannot be used
}

// The first page holds two words. Chunks of the largest order follow.
const (
	buddyMagicOff  = 0
	buddyRootOff   = 8
	buddyHeadBytes = 16
	buddyBase      = nvmap.PageBytes

	buddyMinOrder = 6  // a line, so that pieces share none
	buddyMaxOrder = 20 // 1 MiB

	magicBuddy = 0x5944_4455_4276_6b01
)

// OpenBuddy opens the allocator on m, or makes one if the device is empty. ErrNotStore: the device
// holds something else. The caller must call Recover next.
func OpenBuddy(m *nvmap.Map) (*Buddy, error) {
	if err := formatBuddy(m); err != nil {
		return nil, err
	}
	var b [buddyHeadBytes]byte
	if err := m.Device().Read(buddyMagicOff, b[:]); err != nil {
		return nil, err
	}
	le := binary.LittleEndian
	if magic := le.Uint64(b[buddyMagicOff:]); magic != magicBuddy && magic != magicCreating {
		return nil, notStore(m)
	}
	root, ok := unpackRoot(le.Uint64(b[buddyRootOff:]))
	if !ok {
		return nil, corruptAt(buddyRootOff, "root")
	}
	return &Buddy{m: m, root: root, used: map[Off]int{}, end: buddyBase, err: ErrNotRecovered}, nil
}

// formatBuddy begins to make an empty allocator if the device is empty or holds one whose creation
// a crash ended (A1). Recover completes it.
func formatBuddy(m *nvmap.Map) error {
	absent, err := Absent(m)
	if err != nil || !absent {
		return err
	}
	if err := m.Grow(buddyBase + 1<<buddyMaxOrder); err != nil {
		return fmt.Errorf("create: %w", err)
	}
	if err := writeWord(m, buddyMagicOff, magicCreating); err != nil {
		return err
	}
	return writeWord(m, buddyRootOff, packRoot(0))
}

// orderOf returns the order of the smallest piece that holds n bytes.
func orderOf(n int) int { return max(buddyMinOrder, bits.Len(uint(n-1))) }

// Recover marks the pieces that walk keeps as used, and all others as free; see Allocator.
func (b *Buddy) Recover(walk func(keep func(o Off, n int) error) error) error {
	if !errors.Is(b.err, ErrNotRecovered) {
		return errors.New("alloc: recovered already")
	}
	var bad error
	err := walk(func(o Off, n int) error {
		err := b.keep(o, n)
		if bad == nil {
			bad = err
		}
		return err
	})
	if err := errors.Join(bad, err); err != nil {
		return err
	}
	used, err := b.sorted()
	if err != nil {
		return err
	}
	for b.chunkFits() {
		used = b.fill(b.end, buddyMaxOrder, used)
		b.end += 1 << buddyMaxOrder
	}
	b.err = b.persist()
	return b.err
}

// persist writes the head, which completes the creation of an allocator. It writes it again at
// every opening, because bytes that a killed process left may be visible without being durable
// (R12).
func (b *Buddy) persist() error {
	var head [buddyHeadBytes]byte
	le := binary.LittleEndian
	le.PutUint64(head[buddyMagicOff:], magicBuddy)
	le.PutUint64(head[buddyRootOff:], packRoot(b.root))
	if err := b.m.Write(buddyMagicOff, head[:]); err != nil {
		return err
	}
	return b.m.Fence()
}

// keep notes that the n bytes at o are used.
func (b *Buddy) keep(o Off, n int) error {
	bad := corruptAt(o, fmt.Sprintf("reference to %d bytes: no piece that holds them begins there", n))
	if n <= 0 || n > 1<<buddyMaxOrder {
		return bad
	}
	order := orderOf(n)
	size := b.m.Size() - buddyBase
	if o < buddyBase || (o-buddyBase)&(1<<order-1) != 0 || int64(o-buddyBase)+1<<order > size>>buddyMaxOrder<<buddyMaxOrder {
		return bad
	}
	if _, twice := b.used[o]; twice {
		return corruptAt(o, "piece, owned twice")
	}
	b.used[o] = order
	return nil
}

// sorted returns the used pieces in ascending order. It returns an error if two pieces overlap.
func (b *Buddy) sorted() ([]Off, error) {
	used := make([]Off, 0, len(b.used))
	for o := range b.used {
		used = append(used, o)
	}
	slices.Sort(used)
	for i := 1; i < len(used); i++ {
		if used[i-1]+1<<b.used[used[i-1]] > used[i] {
			return nil, corruptAt(used[i], "piece, owned twice")
		}
	}
	return used, nil
}

// fill frees the parts of the block at o that are not used. It returns the pieces of used beyond
// the block.
func (b *Buddy) fill(o Off, order int, used []Off) []Off {
	end := o + 1<<order
	switch {
	case len(used) == 0 || used[0] >= end:
		b.free[order] = append(b.free[order], o)
		return used
	case used[0] == o && b.used[o] == order:
		return used[1:]
	}
	used = b.fill(o, order-1, used)
	return b.fill(o+1<<(order-1), order-1, used)
}

func (b *Buddy) chunkFits() bool { return int64(b.end)+1<<buddyMaxOrder <= b.m.Size() }

// Alloc returns the first free piece of the smallest sufficient order.
func (b *Buddy) Alloc(n int) (Off, error) {
	switch {
	case b.err != nil:
		return 0, b.err
	case n <= 0 || n > 1<<buddyMaxOrder:
		return 0, fmt.Errorf("%w: %d bytes, at most %d", ErrSize, n, 1<<buddyMaxOrder)
	}
	want := orderOf(n)
	order := want
	for order <= buddyMaxOrder && len(b.free[order]) == 0 {
		order++
	}
	if order > buddyMaxOrder {
		if err := b.grow(); err != nil {
			return 0, err
		}
		order = buddyMaxOrder
	}
	o := b.free[order][0]
	b.free[order] = slices.Delete(b.free[order], 0, 1)
	for ; order > want; order-- {
		b.put(o+1<<(order-1), order-1)
	}
	b.used[o] = want
	return o, nil
}

func (b *Buddy) grow() error {
	if !b.chunkFits() {
		if err := b.m.Grow(int64(b.end) + 1<<buddyMaxOrder); err != nil {
			return err
		}
	}
	b.put(b.end, buddyMaxOrder)
	b.end += 1 << buddyMaxOrder
	return nil
}

func (b *Buddy) put(o Off, order int) {
	i, _ := slices.BinarySearch(b.free[order], o)
	b.free[order] = slices.Insert(b.free[order], i, o)
}

// Free takes a piece back and joins it with its buddy, repeatedly, while the buddy is free.
func (b *Buddy) Free(o Off) error {
	if b.err != nil {
		return b.err
	}
	order, ok := b.used[o]
	if !ok {
		return fmt.Errorf("%w: offset %#x", ErrNotAllocated, uint64(o))
	}
	delete(b.used, o)
	for ; order < buddyMaxOrder; order++ {
		other := buddyBase + ((o - buddyBase) ^ 1<<order)
		i, free := slices.BinarySearch(b.free[order], other)
		if !free {
			break
		}
		b.free[order] = slices.Delete(b.free[order], i, i+1)
		o = min(o, other)
	}
	b.put(o, order)
	return nil
}

// Root returns the offset last set, or 0.
func (b *Buddy) Root() Off { return b.root }

// SetRoot makes o the root; see Allocator.
func (b *Buddy) SetRoot(o Off) error {
	if b.err != nil {
		return b.err
	}
	// A7: the data that o refers to is durable before the root word refers to it.
	if b.err = b.m.Fence(); b.err == nil {
		b.err = writeWord(b.m, buddyRootOff, packRoot(o))
	}
	if b.err == nil {
		b.root = o
	}
	return b.err
}
