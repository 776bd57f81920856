//go:build amd64 || arm64

package paging

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"nvkv/nvmap/internal/uffd"
)

// server is a pager.
type server struct {
	conf   *Config
	class  func(error) Failure
	faults uffd.FD
	region int // descriptor
	conn   *net.UnixConn
	news   int // descriptor of the same socket, for messages that may be lost
	medium Medium
	limit  uint64
	trip   string
	tripAt uint64

	*shared
	singles, chunks buffers
	reading         chan struct{} // held by the one reader of events

	flushing sync.Mutex // one flush at a time; taken before mu

	mu       sync.Mutex // guards the fields below, and the states of pages
	policy   Policy
	busy     map[uint64]*operation
	dirty    map[uint64]struct{}
	used     uint64 // pages present, and on their way in
	coming   uint64 // of these, on their way in
	ahead    uint64 // of these, read ahead
	freed    sync.Cond
	wanted   sync.Cond // the evictor waits here
	waiting  uint64    // pages that reservations wait for
	stuck    error     // no page can leave; nil after one did
	closed   bool
	evicting bool
	leaving  []uint64 // transient pages, in order of arrival
	recent   []uint64 // pages to be unmapped soon, in order of arrival
	hand     uint64   // next page of the sampling round
	streams  [8]stream
	streamAt int
	hints    []message
}

// operation works on pages, which are busy until it is done. P5.
type operation struct{ done chan struct{} }

// readersMax bounds the faults that are served at once. Others wait in the kernel.
const readersMax = 64

// chunkPages is the size of large buffers, and the largest batch (1 MiB).
const chunkPages = 256

func serve(h Hooks, sh *shared, conf *Config, conn *net.UnixConn, control, sharedFile *os.File) int {
	go watchLife(control)
	s := &server{
		conf: conf, class: h.Class, shared: sh, conn: conn,
		faults: fdFaults, region: fdRegion,
		limit:   uint64(conf.Limit),
		busy:    map[uint64]*operation{},
		dirty:   map[uint64]struct{}{},
		singles: newBuffers(PageBytes, readersMax),
		chunks:  newBuffers(chunkPages*PageBytes, 6),
		reading: make(chan struct{}, 1),
	}
	s.freed.L, s.wanted.L = &s.mu, &s.mu
	s.news = int(control.Fd())
	s.trip, s.tripAt = parseTrip(conf.Trip)
	generation := atomic.AddUint64(&sh.h.generation, 1)
	atomic.StoreUint64(&sh.h.pid, uint64(os.Getpid()))
	var err error
	if s.policy, err = h.Policy(conf.Policy); err == nil {
		s.medium, err = openMedium(h, conf, atomic.LoadUint64(&sh.h.started) == 0)
	}
	if err != nil {
		f := s.class(err)
		_ = send(conn, &message{Op: "hello", Gen: generation, Err: &f})
		return exitRefused
	}
	s.step("start.opened")
	if atomic.LoadUint64(&sh.h.started) == 0 {
		atomic.StoreInt64(&sh.h.size, s.medium.Size()&^(PageBytes-1))
		atomic.StoreUint64(&sh.h.started, 1)
	}
	if err := s.recover(sharedFile); err != nil {
		fmt.Fprintf(os.Stderr, "nvmap: pager: %v\n", err)
		return 1
	}
	greeting := message{Op: "hello", Gen: generation}
	if b, ok := s.medium.(*unreachable); ok && b.last != nil {
		f := s.class(b.last)
		greeting.Err = &f
	}
	s.step("start.recovered")
	go s.evictor()
	for range readersMax {
		go s.reader()
	}
	s.reading <- struct{}{}
	_ = s.faults.Wake(conf.Base, uint64(conf.MaxBytes)) // P7
	_ = send(conn, &greeting)
	code := s.control()
	if code == exitDone {
		atomic.StoreUint64(&sh.h.finished, 1)
	}
	return code
}

// openMedium opens the medium. A pager that is not the first must serve the pages that are present
// even if it cannot.
func openMedium(h Hooks, conf *Config, first bool) (Medium, error) {
	if text := os.Getenv(brokenVariable); text != "" {
		return &unreachable{last: errors.New(text), until: time.Now().Add(1 << 40)}, nil
	}
	m, err := h.Open(conf, false)
	if err == nil || first {
		return m, err
	}
	return &unreachable{last: err, open: func() (Medium, error) { return h.Open(conf, false) }}, nil
}

// parseTrip returns the step and the number at which the pager kills itself.
func parseTrip(s string) (step string, at uint64) {
	step, n, _ := strings.Cut(s, ":")
	at, _ = strconv.ParseUint(n, 10, 64)
	return step, at
}

// step names a place at which tests kill the pager.
func (s *server) step(name string) {
	if s.trip == name && atomic.AddUint64(&s.h.trips, 1) == s.tripAt {
		_ = unix.Kill(os.Getpid(), unix.SIGKILL)
		select {}
	}
}

// recover finds out which pages are present. P7.
func (s *server) recover(sharedFile *os.File) error {
	present := map[uint64]bool{}
	err := eachData(s.region, 0, s.conf.MaxBytes, func(from, to int64) {
		for p := uint64(from / PageBytes); p < uint64(to/PageBytes); p++ {
			present[p] = true
		}
	})
	if err != nil {
		return fmt.Errorf("looking for the pages that are present: %w", err)
	}
	err = eachData(int(sharedFile.Fd()), statesAt, int64(len(s.mem)), func(from, to int64) {
		for p := max(from-statesAt, 0); p < min(to-statesAt, int64(len(s.states))); p++ {
			if st := s.states[p]; st != 0 && !present[uint64(p)] {
				s.states[p] = st & isPoisoned
			}
		}
	})
	if err != nil {
		return fmt.Errorf("looking for the states of pages: %w", err)
	}
	for p := range present {
		s.states[p] = s.states[p]&isDirty | isPresent
		if s.states[p]&isDirty != 0 {
			s.dirty[p] = struct{}{}
		}
		s.policy.Insert(p)
	}
	s.used = uint64(len(present))
	s.count()
	return nil
}

// eachData calls do with each range of a memfd, within [from, to), that has memory.
func eachData(fd int, from, to int64, do func(from, to int64)) error {
	for at := from; at < to; {
		begin, err := unix.Seek(fd, at, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			return nil
		}
		if err != nil {
			return err
		}
		end, err := unix.Seek(fd, begin, unix.SEEK_HOLE)
		if err != nil {
			return err
		}
		do(begin, min(end, to))
		at = end
	}
	return nil
}

// count publishes what is counted under mu.
func (s *server) count() {
	atomic.StoreUint64(&s.h.Resident, s.used)
	atomic.StoreUint64(&s.h.Dirty, uint64(len(s.dirty)))
	if s.used > atomic.LoadUint64(&s.h.ResidentMax) {
		atomic.StoreUint64(&s.h.ResidentMax, s.used)
	}
}

func (s *server) at(p uint64) uint64 { return s.conf.Base + p*PageBytes }

// reader reads events, one reader at a time, and serves them.
func (s *server) reader() {
	var one [1]uffd.Fault
	for {
		<-s.reading
		fs, err := s.faults.Read(one[:0])
		s.reading <- struct{}{}
		if err != nil {
			fmt.Fprintf(os.Stderr, "nvmap: pager: reading events: %v\n", err)
			unix.Exit(1)
		}
		for _, f := range fs {
			s.step("fault.read")
			s.serve(f)
		}
	}
}

// serve resolves one event. P6.
func (s *server) serve(f uffd.Fault) {
	p := (f.Addr - s.conf.Base) / PageBytes
	for {
		s.mu.Lock()
		if o := s.busy[p]; o != nil {
			s.mu.Unlock()
			<-o.done
			continue
		}
		if s.states[p]&isPresent != 0 {
			s.touch(p, f)
			s.mu.Unlock()
			return
		}
		o := s.begin(p)
		ahead := s.readAhead(p)
		s.mu.Unlock()
		if ahead != nil {
			go ahead()
		}
		s.fill(p, f.Write, o)
		return
	}
}

// begin makes a page busy. The caller holds mu.
func (s *server) begin(ps ...uint64) *operation {
	o := &operation{make(chan struct{})}
	for _, p := range ps {
		s.busy[p] = o
	}
	return o
}

// end ends an operation on its pages. The caller holds mu.
func (s *server) end(o *operation, ps ...uint64) {
	for _, p := range ps {
		delete(s.busy, p)
	}
	close(o.done)
	s.count()
}

// touch serves an event of a page that is present. The caller holds mu.
func (s *server) touch(p uint64, f uffd.Fault) {
	st := s.states[p]
	s.states[p] &^= isUnmapped
	s.noteUse(f)
	if st&isAhead != 0 {
		s.states[p] &^= isAhead
		if next := s.readAhead(p); next != nil {
			go next()
		}
	} else {
		s.states[p] |= isTouched
	}
	if f.Write && st&isDirty == 0 {
		s.states[p] |= isDirty // P3
		s.dirty[p] = struct{}{}
		s.count()
		s.step("store.marked")
		if st&isTransient != 0 && s.policy.Admit(p, true) {
			s.admit(p)
		}
	}
	var err error
	if f.Held {
		err = s.again(func() error { return s.faults.Unprotect(s.at(p), PageBytes) })
	} else {
		err = s.again(func() error { return s.faults.Continue(s.at(p), PageBytes, s.states[p]&isDirty == 0) })
	}
	switch {
	case err == nil:
	case errors.Is(err, unix.EFAULT) && !f.Held:
		s.vanished(p)
	default: // EEXIST: another event of the page was served before this one; else the program is gone
		s.wake(p)
	}
}

// noteUse counts an event of a page that is present.
func (s *server) noteUse(f uffd.Fault) {
	switch {
	case f.Held:
		atomic.AddUint64(&s.h.Stores, 1)
	case f.Minor:
		atomic.AddUint64(&s.h.Minor, 1)
	}
}

// vanished serves a page that counts as present and has no memory: something outside has taken it.
// Bytes that were stored there are gone, and reading the page from the medium would hide it. The
// caller holds mu.
func (s *server) vanished(p uint64) {
	lost := s.states[p]&isDirty != 0
	s.policy.Remove(p)
	delete(s.dirty, p)
	s.states[p] = 0
	s.used--
	s.count()
	s.freed.Broadcast()
	if lost {
		s.states[p] = isPoisoned
		fmt.Fprintf(os.Stderr, "nvmap: pager: page %d with unwritten bytes has vanished from the region\n", p)
		s.poison(p)
		return
	}
	s.wake(p)
}

// admit hands a transient page to the policy. The caller holds mu.
func (s *server) admit(p uint64) {
	s.states[p] &^= isTransient
	s.policy.Insert(p)
}

// again repeats a call while the address space of the program is changing.
func (s *server) again(call func() error) error {
	for n := 0; ; n++ {
		err := call()
		if !errors.Is(err, unix.EAGAIN) {
			return err
		}
		if n > 100 {
			time.Sleep(100 * time.Microsecond)
		}
	}
}

func (s *server) wake(p uint64) { _ = s.faults.Wake(s.at(p), PageBytes) }

// poison makes each access to a missing page fail. P11.
func (s *server) poison(p uint64) {
	atomic.AddUint64(&s.h.Poisoned, 1)
	// The mark of an earlier protection may stand in the page table, and poison replaces nothing.
	_ = s.again(func() error { return s.faults.Clear(s.at(p), PageBytes) })
	if err := s.again(func() error { return s.faults.Poison(s.at(p), PageBytes) }); err != nil {
		s.wake(p)
	}
}

// buffers is a pool of buffers that are aligned to pages.
type buffers struct {
	bytes int
	free  chan []byte
}

func newBuffers(bytes, n int) buffers {
	b := buffers{bytes, make(chan []byte, n)}
	for range n {
		b.free <- nil
	}
	return b
}

// get waits for a buffer.
func (b buffers) get() []byte {
	buf := <-b.free
	if buf == nil {
		var err error
		if buf, err = unix.Mmap(-1, 0, b.bytes, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON); err != nil {
			fmt.Fprintf(os.Stderr, "nvmap: pager: %d bytes for a buffer: %v\n", b.bytes, err)
			unix.Exit(1) // another pager may get them
		}
	}
	return buf
}

func (b buffers) put(buf []byte) { b.free <- buf }

// unreachable stands for a medium that cannot be opened again. It tries now and then.
type unreachable struct {
	open func() (Medium, error)

	mu    sync.Mutex
	m     Medium
	last  error
	until time.Time
}

const reopenPause = 100 * time.Millisecond

func (u *unreachable) get() (Medium, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.m == nil && time.Now().After(u.until) {
		u.m, u.last = u.open()
		if u.last != nil {
			u.m, u.until = nil, time.Now().Add(reopenPause)
		}
	}
	return u.m, u.last
}

func (u *unreachable) Size() int64 {
	if m, err := u.get(); err == nil {
		return m.Size()
	}
	return 0
}

func (u *unreachable) do(call func(Medium) error) error {
	m, err := u.get()
	if err != nil {
		return err
	}
	return call(m)
}

func (u *unreachable) Grow(size int64) error {
	return u.do(func(m Medium) error { return m.Grow(size) })
}

func (u *unreachable) Read(moves []Move) {
	if err := u.do(func(m Medium) error { m.Read(moves); return nil }); err != nil {
		fail(moves, err)
	}
}

func (u *unreachable) Write(moves []Move) {
	if err := u.do(func(m Medium) error { m.Write(moves); return nil }); err != nil {
		fail(moves, err)
	}
}

func (u *unreachable) Settle() error { return u.do(Medium.Settle) }
func (u *unreachable) Fence() error  { return u.do(Medium.Fence) }
func (u *unreachable) Close() error  { return u.do(Medium.Close) }

func fail(moves []Move, err error) {
	for i := range moves {
		moves[i].Err = err
	}
}
