package nvmap

import "slices"

// wearBytes is the block in which non-volatile memory writes, whatever the size of the request: 256
// bytes in Optane.
const wearBytes = 256

// OptaneBuffer is the write buffer of one module of Optane DC persistent memory of the first
// generation, as measured: 16 KiB. See [Sim.SetWearBuffer].
const OptaneBuffer = 16 << 10

// Wear counts the writes to the 256-byte blocks of a simulated medium. A block wears once for each
// fence that makes a byte of it durable, because writes before the fence are combined. A medium
// with a write buffer ([Sim.SetWearBuffer]) combines writes across fences.
type Wear struct {
	Lines  int64   // 64-byte lines that fences made durable
	Writes int64   // writes to blocks
	Blocks int64   // blocks written at least once
	Max    int64   // most writes to one block
	MaxOff Off     // offset of that block; the first of several
	Mean   float64 // over all blocks of the device: Max far above it shows a hot spot
}

// wear counts the writes to each block.
type wear struct {
	lines  int64
	blocks []wornBlock // grows with the highest block written
	room   int         // capacity of the medium's buffer, in blocks
	buffer []int       // blocks in the buffer, the one written last at the end
}

// wornBlock is the write count of a block and the last fence that added to it.
type wornBlock struct{ writes, fence uint32 }

// line counts a write to line n, which a fence made durable.
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

// buffered makes a block the newest in the buffer and evicts the oldest if the buffer is full. It
// reports whether the block was in the buffer: then the write is combined with earlier ones.
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

// SetWearBuffer gives the medium a write buffer of the given size in bytes. The medium combines
// writes to a block while the block is in the buffer. When the buffer is full, the block that was
// written longest ago leaves it. Fenced bytes are durable all the same, because such a buffer
// survives a power failure. 0 (the default): writes are combined up to the next fence only.
func (s *Sim) SetWearBuffer(bytes int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.wear.room, s.wear.buffer = bytes/wearBytes, nil
}

// Wear returns the wear of the medium since the Sim was made or ResetWear was called.
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

// WearAt returns the number of writes to the block that holds the byte at off.
func (s *Sim) WearAt(off Off) int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	if at := off / wearBytes; at < Off(len(s.wear.blocks)) {
		return int64(s.wear.blocks[at].writes)
	}
	return 0
}

// ResetWear sets all wear to zero.
func (s *Sim) ResetWear() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.wear = wear{room: s.wear.room}
}
