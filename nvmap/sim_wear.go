package nvmap

// wearBytes is the block in which non-volatile memory writes, whatever it is
// asked for: 256 bytes in Optane.
const wearBytes = 256

// Wear says how often the blocks of a simulated medium, of 256 bytes, were
// written. A block wears once for each fence that finds a byte of it written:
// what is written again before the fence is combined.
type Wear struct {
	Writes int64   // of blocks
	Blocks int64   // that were written at least once
	Max    int64   // of one block
	MaxOff Off     // where that is; the first of several
	Mean   float64 // over all blocks of the device: Max far above it is a hot spot
}

// wear counts the writes of each block.
type wear struct {
	blocks []wornBlock // grows with the highest block written
}

// wornBlock is a block's count and the last fence that added to it.
type wornBlock struct{ writes, fence uint32 }

// line counts a write to line n that fence made durable.
func (w *wear) line(n uint64, fence int64) {
	at := int(n * lineBytes / wearBytes)
	if at >= len(w.blocks) {
		w.blocks = append(w.blocks, make([]wornBlock, at+1-len(w.blocks))...)
	}
	if b := &w.blocks[at]; b.fence != uint32(fence) {
		b.fence = uint32(fence)
		b.writes++
	}
}

// Wear returns how worn the medium is since the Sim was made or ResetWear was
// called.
func (s *Sim) Wear() Wear {
	s.mu.Lock()
	defer s.mu.Unlock()
	var w Wear
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
	s.wear = wear{}
}
