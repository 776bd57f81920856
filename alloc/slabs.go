package alloc

import (
	"encoding/binary"
	"errors"
	"fmt"

	"nvkv/nvmap"
)

// Slabs implements [Allocator] with a [Region], for users that need neither kinds of slabs nor
// checkpoints. Small pieces are slots, large ones runs of pages.
type Slabs struct {
	r    *Region
	m    *nvmap.Map
	cell Off // the slot whose first word is the root
	root Off
	runs map[Off]Extent
	err  error // why the allocator cannot be used
}

// slabsTag is the beginning of the superblock's payload. The offset of the root's cell follows.
const slabsTag = "nvkvROOT"

// OpenSlabs opens the allocator on m, or makes one if the device is empty. ErrNotStore: the device
// holds something else. The caller must call Recover next.
func OpenSlabs(m *nvmap.Map) (*Slabs, error) {
	absent, err := Absent(m)
	if err == nil && absent {
		err = Format(m, Options{Payload: slabsPayload(0)})
	}
	if err != nil {
		return nil, err
	}
	r, err := Open(m)
	if err != nil {
		return nil, err
	}
	r.SetInterval(1)
	s := &Slabs{r: r, m: m, runs: map[Off]Extent{}, err: ErrNotRecovered}
	p := r.Payload()
	if len(p) != len(slabsTag)+8 || string(p[:len(slabsTag)]) != slabsTag {
		return nil, fmt.Errorf("%w: another user's region", ErrNotStore)
	}
	s.cell = Off(binary.LittleEndian.Uint64(p[len(slabsTag):]))
	if s.cell == 0 {
		return s, nil
	}
	return s, s.readRoot()
}

func slabsPayload(cell Off) []byte {
	return binary.LittleEndian.AppendUint64([]byte(slabsTag), uint64(cell))
}

func (s *Slabs) readRoot() error {
	var b [8]byte
	if s.cell%8 != 0 {
		return corruptAt(s.cell, "place of the root")
	}
	if err := s.m.Device().Read(s.cell, b[:]); err != nil {
		return err
	}
	var ok bool
	if s.root, ok = unpackRoot(binary.LittleEndian.Uint64(b[:])); !ok {
		return corruptAt(s.cell, "root")
	}
	return nil
}

// Recover claims the pieces that walk keeps; see Allocator.
func (s *Slabs) Recover(walk func(keep func(o Off, n int) error) error) error {
	if !errors.Is(s.err, ErrNotRecovered) {
		return fmt.Errorf("alloc: recovered already")
	}
	if s.cell != 0 {
		if err := s.keep(s.cell, 8); err != nil {
			return err
		}
	}
	var bad error
	err := walk(func(o Off, n int) error {
		err := s.keep(o, n)
		if bad == nil {
			bad = err
		}
		return err
	})
	if err = errors.Join(bad, err); err != nil {
		return err
	}
	s.r.Ready()
	s.err = s.persist()
	return s.err
}

// persist writes again the bytes that this opening relied on, because bytes that a killed process
// left may be visible without being durable (R12).
func (s *Slabs) persist() error {
	if err := s.r.RewriteSuper(); err != nil {
		return err
	}
	if s.cell == 0 {
		return s.makeCell()
	}
	if err := s.r.Touch(s.cell); err != nil {
		return err
	}
	return s.writeRoot(s.root)
}

// keep claims the slot or the run at o.
func (s *Slabs) keep(o Off, n int) error {
	if n <= s.r.LargestSlot() {
		_, slotBytes, ok := s.r.Carve(o, KindRecord)
		if !ok || n <= 0 || n > slotBytes {
			return corruptAt(o, fmt.Sprintf("reference to %d bytes: no slot holds them there", n))
		}
		return s.r.Claim(o, KindRecord)
	}
	e := Extent{o, int64(s.runBytes(n))}
	if err := s.r.ClaimRun(e); err != nil {
		return err
	}
	s.runs[o] = e
	return nil
}

// makeCell allocates the cell of the root during the first recovery. A crash before the superblock
// names it leaves a region without a cell, and the next recovery makes one.
func (s *Slabs) makeCell() error {
	c, _ := s.r.ClassFor(8)
	cell, err := s.r.AllocRecord(c, true)
	if err != nil {
		return err
	}
	s.cell = cell
	if err := s.r.Touch(cell); err != nil {
		return err
	}
	if err := s.writeRoot(0); err != nil {
		return err
	}
	return s.r.WriteSuper(slabsPayload(cell))
}

func (s *Slabs) writeRoot(o Off) error {
	return writeWord(s.m, s.cell, packRoot(o))
}

// Alloc hands out a slot or, above the largest slot size, a run of pages; see Allocator.
func (s *Slabs) Alloc(n int) (Off, error) {
	if s.err != nil {
		return 0, s.err
	}
	if n <= 0 {
		return 0, fmt.Errorf("%w: %d bytes", ErrSize, n)
	}
	c, ok := s.r.ClassFor(n)
	if !ok {
		return s.allocRun(n)
	}
	o, err := s.r.AllocRecord(c, false)
	if err != nil {
		return 0, err
	}
	// A4: the identity of the slab shares the fence of the slot's contents.
	if err := s.r.Touch(o); err != nil {
		return 0, errors.Join(err, s.r.Free(o))
	}
	return o, nil
}

// runBytes returns the size of a run for n bytes: pages of one slab, or adjacent whole slabs.
func (s *Slabs) runBytes(n int) int {
	if n > s.r.geo.slabBytes {
		return roundUp(n, s.r.geo.slabBytes)
	}
	return roundUp(n, nvmap.PageBytes)
}

func (s *Slabs) allocRun(n int) (Off, error) {
	group := s.r.geo.groupSlabs
	if most := (group - s.r.geo.metaSlabs) * s.r.geo.slabBytes; n > most {
		return 0, fmt.Errorf("%w: %d bytes, at most %d", ErrSize, n, most)
	}
	bytes := s.runBytes(n)
	runs, err := s.r.AllocRuns(int64(bytes), 1)
	// No stretch of free slabs is long enough. Grow by twice as many slabs: if the metadata of a
	// group divides them, one of the parts is still long enough.
	for _, slabs := range []int{2 * bytes / s.r.geo.slabBytes, bytes / s.r.geo.slabBytes} {
		if errors.Is(err, ErrFull) && slabs > 0 && s.r.grow(slabs) == nil {
			runs, err = s.r.AllocRuns(int64(bytes), 1)
		}
	}
	if err != nil {
		return 0, err
	}
	s.runs[runs[0].Off] = runs[0]
	return runs[0].Off, nil
}

// Free takes a piece back; see Allocator.
func (s *Slabs) Free(o Off) error {
	if s.err != nil {
		return s.err
	}
	if e, ok := s.runs[o]; ok {
		delete(s.runs, o)
		return s.r.FreeRun(e)
	}
	_, _, slot := s.r.Carve(o, KindRecord)
	if !slot || o == s.cell || !s.r.IsUsed(o) {
		return fmt.Errorf("%w: offset %#x", ErrNotAllocated, uint64(o))
	}
	return s.r.Free(o)
}

// Root returns the offset last set, or 0.
func (s *Slabs) Root() Off { return s.root }

// SetRoot makes o the root; see Allocator.
func (s *Slabs) SetRoot(o Off) error {
	if s.err != nil {
		return s.err
	}
	// A7: the data that o refers to is durable before the root word refers to it.
	if s.err = s.m.Fence(); s.err == nil {
		s.err = s.writeRoot(o)
	}
	if s.err == nil {
		s.root = o
	}
	return s.err
}
