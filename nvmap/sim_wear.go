package nvmap

import "slices"

// wearBytes is the block in which non-volatile memory writes, whatever it is
// asked for: 256 bytes in Optane.
const wearBytes = 256

// OptaneBuffer is the write buffer of one module of Optane DC persistent memory of
// the first generation, as measured: 16 KiB. See [Sim.SetWearBuffer].
const OptaneBuffer = 16 << 10

// Wear says how often the blocks of a simulated medium, of 256 bytes, were
// written. A block wears once for each fence that finds a byte of it written:
// what is written again before the fence is combined. A medium with a write
// buffer ([Sim.SetWearBuffer]) combines beyond fences.
type Wear struct {
	Lines  int64   // of 64 bytes that fences made durable
	Writes int64   // of blocks
	Blocks int64   // that were written at least once
	Max    int64   // of one block
	MaxOff Off     // where that is; the first of several
	Mean   float64 // over all blocks of the device: Max far above it is a hot spot
}

// wear counts the writes of each block.
type wear struct {
	lines  int64
	blocks []wornBlock // grows with the highest block written
	room   int         // blocks that the medium's buffer holds
	buffer []int       // those in it, the one written last at the end
}

// wornBlock is a block's count and the last fence that added to it.
type wornBlock struct{ writes, fence uint32 }

// line counts a write to line n that fence made durable.
func (w *wear) line(n uint64, fence int64) {
	w.lines++
	at := int(n * lineBytes / wearBytes)
	if at >= len(w.blocks) {
		w.blocks = append(w.blocks, make([]wornBlock, at+1-len(w.blocks))...)
	}
	b := &w.blocks[at]
	if w.room > 0 {
		if !w.buffered(at) {
			b.writes++
		}
	} else if b.fence != uint32(fence) {
		b.fence = uint32(fence)
		b.writes++
	}
}

// buffered makes a block the newest in the buffer, from which the oldest goes, and
// reports whether it was there already: what is written to it then goes along
// with what it holds.
func (w *wear) buffered(at int) bool {
	i := slices.Index(w.buffer, at)
	if i < 0 {
		if w.buffer = append(w.buffer, at); len(w.buffer) > w.room {
			w.buffer = slices.Delete(w.buffer, 0, 1)
		}
		return false
	}
	w.buffer = append(slices.Delete(w.buffer, i, i+1), at)
	return true
}

// SetWearBuffer gives the medium a write buffer of so many bytes, in which it
// combines what is written to a block while the block stays there: the block that
// was written to longest ago leaves when another needs its place. What is fenced
// is durable all the same, because such a buffer outlives a power failure. 0, as
// at first: writes are combined up to the next fence only.
func (s *Sim) SetWearBuffer(bytes int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.wear.room, s.wear.buffer = bytes/wearBytes, nil
}

// Wear returns how worn the medium is since the Sim was made or ResetWear was
// called.
func (s *Sim) Wear() Wear {
	s.mu.Lock()
	defer s.mu.Unlock()
	w := Wear{Lines: s.wear.lines}
	for i, b := range s.wear.blocks {
		n := int64(b.writes)
		w.Writes += n
		if n > 0 {
			w.Blocks++
		}
		if n > w.Max {
			w.Max, w.MaxOff = n, Off(i)*wearBytes
		}
	}
	if blocks := s.size.Load() / wearBytes; blocks > 0 {
		w.Mean = float64(w.Writes) / float64(blocks)
	}
	return w
}

// WearAt returns how often the block that holds the byte at off was written.
func (s *Sim) WearAt(off Off) int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	if at := off / wearBytes; at < Off(len(s.wear.blocks)) {
		return int64(s.wear.blocks[at].writes)
	}
	return 0
}

// ResetWear makes the medium new.
func (s *Sim) ResetWear() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.wear = wear{room: s.wear.room}
}
