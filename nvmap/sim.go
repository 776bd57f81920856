package nvmap

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
)

// A Sim is a device that knows every state that a crash may leave. It passes reads and writes to
// the device beneath. For each 64-byte line written since the last fence it remembers every content
// that the line has had. A power failure leaves any of these contents, or a mixture of their 8-byte
// words, independently for each line. Images yields those states, and each can be opened as a
// device. SetModel makes sectors or pages the unit, as on disks.
//
// A line is clean, dirty (stored), flushed (on its way to the medium), or clean again and durable
// after a fence: see LineState. Write stores and flushes at once. Store and Flush do so separately.
//
// Grow, Discard and Allocate are durable when they return. The content of a line that a fence made
// durable stays, unless IgnoreWrite or FailFence changed that.
//
// A Sim is as fast as the device beneath unless SetTiming says otherwise. It counts the wear of its
// blocks (Wear). It can fail one call by its number (FailWrite, FailFence) or any call by a rule
// (FailIf), lose lines so that they cannot be read (LoseLines), and change bytes (Corrupt).
//
// A Sim may be used as concurrently as any Device. Its fence covers the writes of all goroutines.
type Sim struct {
	base Device

	size    atomic.Int64
	writes  atomic.Int64
	fences  atomic.Int64
	onWrite atomic.Pointer[func(off Off, n int)]
	onFence atomic.Pointer[func()]

	closed atomic.Bool
	hidden bool // the mapping is hidden
	pace   atomic.Pointer[pace]
	rule   atomic.Pointer[func(Access) error]
	lost   lostLines

	mu      sync.Mutex // guards the fields below; held during Images
	limit   int64      // bound of Grow; 0: the bound of base
	keep    bool       // Discard keeps the bytes
	pending pendingLines
	strays  map[uint64]line // content on the medium, where it differs from the visible content
	seq     int             // number of the last write
	plan    faultPlan
	lints   Lints
	model   Model
	wear    wear
	poison  func(Off) bool // lines whose words in flight may become noise

	durable []byte   // durable bytes of the medium; nil until first needed
	stale   pageSet  // pages where the workbench may differ from durable
	bench   *Sim     // the device on which images are tried
	touched *pageSet // set on a workbench: pages written since its reset
}

// line is the content of one 64-byte line.
type line [lineBytes]byte

const wordsPerLine = lineBytes / 8

// NewSim wraps base, which the simulator then owns: nothing else may write to it. The present
// contents of base count as durable.
func NewSim(base Device) *Sim {
	s := &Sim{base: base, strays: map[uint64]line{}, model: Lines}
	s.size.Store(base.Size())
	return s
}

// Info describes the device beneath, as simulated.
func (s *Sim) Info() Info {
	info := s.base.Info()
	info.Kind = "sim(" + info.Kind + ")"
	info.Unit, info.Sector = lineBytes, 8
	info.Mapped = info.Mapped && !s.hidden
	info.Domain = "a simulated medium: a line written and not fenced may be lost, kept or torn between its words"
	return info
}

// Size returns the number of usable bytes.
func (s *Sim) Size() int64 { return s.size.Load() }

// Mapping returns the mapping of the device beneath, unless it is hidden.
func (s *Sim) Mapping() []byte {
	if s.hidden {
		return nil
	}
	return s.base.Mapping()
}

// SetProtection changes the protection of the device beneath, if it has one.
func (s *Sim) SetProtection(p Protection) error { return setProtection(s.base, p) }

// SetLimit makes Grow beyond size fail with ErrFull. 0 removes the limit.
func (s *Sim) SetLimit(size int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.limit = size
}

// KeepDiscarded makes Discard leave the bytes as they were, as a file system without holes does.
// Otherwise they become zero.
func (s *Sim) KeepDiscarded(keep bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keep = keep
}

// OnWrite sets f to be called at the start of each Write and Store, before the bytes are visible.
func (s *Sim) OnWrite(f func(off Off, n int)) { s.onWrite.Store(&f) }

// OnFence sets f to be called at the start of each Fence, when the most lines are pending. f may
// iterate over Images. It must not write to this device.
func (s *Sim) OnFence(f func()) { s.onFence.Store(&f) }

// Writes returns the number of calls of Write and Store.
func (s *Sim) Writes() int { return int(s.writes.Load()) }

// Fences returns the number of calls of Fence.
func (s *Sim) Fences() int { return int(s.fences.Load()) }

// Pending returns the number of lines that a power failure could spoil now.
func (s *Sim) Pending() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.pending.order)
}

// Grow makes at least size bytes usable, durably.
func (s *Sim) Grow(size int64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closed.Load():
		return ErrClosed
	case size <= s.size.Load():
		return nil
	case s.limit > 0 && size > s.limit:
		return fmt.Errorf("%w: simulated device of %d bytes", ErrFull, s.limit)
	}
	if err := s.refused("grow", 0, size); err != nil {
		return notGrown("growing", err)
	}
	size = roundUp(size, PageBytes)
	if err := s.base.Grow(size); err != nil {
		return err
	}
	if s.durable != nil {
		s.durable = append(s.durable, make([]byte, size-int64(len(s.durable)))...)
	}
	s.size.Store(size)
	return nil
}

// Read fills p with the visible bytes at off.
func (s *Sim) Read(off Off, p []byte) error {
	if err := s.readable(off, int64(len(p))); err != nil {
		return err
	}
	err := s.base.Read(off, p)
	s.pace.Load().read(int64(len(p)))
	return err
}

// Write makes p visible at off, and pending.
func (s *Sim) Write(off Off, p []byte) error {
	if f := s.onWrite.Load(); f != nil {
		(*f)(off, len(p))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.writes.Add(1)
	if err := s.check("write", off, int64(len(p))); err != nil {
		return err
	}
	ignore, fail := s.plan.nextWrite()
	if fail == nil {
		fail = s.refused("write", off, int64(len(p)))
	}
	if fail != nil {
		// The write fails half-way.
		p = p[:len(p)/2&^7]
	}
	err := s.store(off, p, ignore)
	if err == nil && !ignore {
		s.flush(off, int64(len(p)))
	}
	s.pace.Load().wrote(int64(len(p)))
	if fail != nil {
		return &FaultError{Off: off, Op: "write", Err: fail}
	}
	return err
}

// store makes p visible. Unless the write is ignored, p becomes a version of its lines.
func (s *Sim) store(off Off, p []byte, ignore bool) error {
	s.seq++
	var err error
	if ignore {
		err = s.stray(off, p)
	} else {
		err = s.record(off, p)
	}
	if err == nil {
		err = s.base.Write(off, p)
	}
	if err == nil {
		s.lost.heal(off, int64(len(p)))
	}
	if s.touched != nil {
		s.touched.add(off, int64(len(p)))
	}
	return err
}

// check returns an error if [off, off+n) cannot be used.
func (s *Sim) check(op string, off Off, n int64) error {
	if s.closed.Load() {
		return ErrClosed
	}
	return checkRange(op, off, n, s.size.Load())
}

// record adds a new version to each line that p touches.
func (s *Sim) record(off Off, p []byte) error {
	from, to := outward(off, int64(len(p)), lineBytes)
	visible := make([]byte, to-from) // read in one call: single lines are slow on a disk
	if err := s.base.Read(Off(from), visible); err != nil {
		return err
	}
	return eachLine(off, p, func(n uint64, at int, part []byte) error {
		pl := s.pending.get(n)
		if pl == nil {
			content, unlike := s.strays[n]
			if !unlike {
				content = line(visible[int64(n*lineBytes)-from:])
			}
			pl = s.pending.add(n, content)
			pl.unlike = unlike
			delete(s.strays, n)
		}
		next := pl.newest()
		old := next
		copy(next[at:], part)
		s.lints.stored(old == next)
		pl.versions = append(pl.versions, version{s.seq, next})
		return nil
	})
}

// stray saves the medium's content of the lines that an ignored write of p is about to change.
func (s *Sim) stray(off Off, p []byte) error {
	return eachLine(off, p, func(n uint64, _ int, _ []byte) error {
		if pl := s.pending.get(n); pl != nil {
			pl.unlike = true // its versions hold the possible contents of the medium
			return nil
		}
		content, err := s.medium(n)
		s.strays[n] = content
		return err
	})
}

// medium returns the durable content of a line that is not pending.
func (s *Sim) medium(n uint64) (line, error) {
	if content, ok := s.strays[n]; ok {
		return content, nil
	}
	var content line
	err := s.base.Read(Off(n*lineBytes), content[:])
	return content, err
}

// eachLine splits the write of p at off at line boundaries.
func eachLine(off Off, p []byte, f func(n uint64, at int, part []byte) error) error {
	for len(p) > 0 {
		n, at := uint64(off)/lineBytes, int(off%lineBytes)
		part := p[:min(len(p), lineBytes-at)]
		if err := f(n, at, part); err != nil {
			return err
		}
		off, p = off+Off(len(part)), p[len(part):]
	}
	return nil
}

// Fence makes all flushed versions durable.
func (s *Sim) Fence() error {
	if f := s.onFence.Load(); f != nil {
		(*f)()
	}
	if err := s.fence(); err != nil {
		return err
	}
	s.pace.Load().fence()
	return nil
}

func (s *Sim) fence() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fences.Add(1)
	if s.closed.Load() {
		return ErrClosed
	}
	ignore, fail := s.plan.nextFence()
	if fail == nil {
		fail = s.refused("fence", 0, 0)
	}
	switch {
	case fail != nil:
		// As after a failed fsync, it is unknown whether the lines arrived. A later fence covers
		// them only if they are written again.
		for _, pl := range s.pending.order {
			pl.flushed = 0
		}
		return &FaultError{Op: "fence", Err: fail}
	case ignore:
		return nil
	}
	s.lints.fenced(&s.pending)
	s.settle()
	return s.base.Fence()
}

// Show makes earlier writes visible in the mapping, if the device beneath shows them late.
func (s *Sim) Show() error {
	if d, ok := s.base.(shower); ok {
		return d.Show()
	}
	return nil
}

// settle makes the newest flushed version of each pending line durable.
func (s *Sim) settle() {
	s.pending.settle(func(pl *pendingLine) {
		off := Off(pl.n * lineBytes)
		if s.touched == nil { // trials on an image cause no wear
			s.wear.line(pl.n, s.fences.Load())
		}
		if pl.unlike && len(pl.versions) == 0 {
			s.strays[pl.n] = pl.before
		}
		if s.durable != nil {
			copy(s.durable[off:], pl.before[:])
			s.stale.add(off, lineBytes)
		}
	})
}

// Discard makes whole pages of the range read as zero, durably.
func (s *Sim) Discard(off Off, n int64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.check("discard", off, n); err != nil {
		return err
	}
	from, to := inward(off, n, PageBytes)
	if err := s.refused("discard", off, n); err != nil {
		return &FaultError{Off: off, Op: "discard", Err: err}
	}
	if s.keep || from >= to {
		return nil
	}
	return s.put(Off(from), make([]byte, to-from))
}

// Allocate does nothing unless a rule refuses it, because a simulated block is always there.
func (s *Sim) Allocate(off Off, n int64) error {
	if err := s.check("allocate", off, n); err != nil {
		return err
	}
	if err := s.refused("allocate", off, n); err != nil {
		return notGrown("allocating", err)
	}
	return nil
}

// Corrupt changes visible and durable bytes, as decay does. It changes no counter and calls no
// hook.
func (s *Sim) Corrupt(off Off, p []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.check("corrupt", off, int64(len(p))); err != nil {
		return err
	}
	return s.put(off, p)
}

// put makes p visible and durable at once. Pending changes of other bytes in the same lines stay
// pending.
func (s *Sim) put(off Off, p []byte) error {
	_ = eachLine(off, p, func(n uint64, at int, part []byte) error {
		if content, ok := s.strays[n]; ok {
			copy(content[at:], part)
			s.strays[n] = content
		}
		if pl := s.pending.get(n); pl != nil {
			pl.put(at, part)
		}
		return nil
	})
	if s.durable != nil {
		copy(s.durable[off:], p)
		s.stale.add(off, int64(len(p)))
	}
	if s.touched != nil {
		s.touched.add(off, int64(len(p)))
	}
	return s.base.Write(off, p)
}

// Close closes the device beneath. The device of an image keeps it, because the next image uses it
// again.
func (s *Sim) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed.Swap(true) {
		return nil
	}
	if s.touched != nil {
		return nil
	}
	if s.bench != nil {
		_ = s.bench.base.Close()
	}
	return s.base.Close()
}

// Kill returns the state that the next process finds when this one dies and the machine stays up.
// Visible bytes are visible, and pending lines may still be lost later. The returned device has
// memory of its own. This device continues unchanged.
func (s *Sim) Kill() *Sim {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.killed(s.seq).Clone()
}

// Crash returns a random state that a power failure may leave now, on memory of its own. This
// device continues unchanged. Equal seeds and histories give equal crashes.
func (s *Sim) Crash(seed uint64) *Sim {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.random(s.blocks(), rand.New(rand.NewPCG(seed, 0)), "random").Clone()
}
