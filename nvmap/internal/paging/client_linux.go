//go:build amd64 || arm64

package paging

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"nvkv/nvmap/internal/uffd"
)

// Client is the program's side of a map.
type Client struct {
	conf    Config
	command []string // of a third party's pager; nil: this binary
	logger  *slog.Logger

	base         unsafe.Pointer
	faults       uffd.FD
	kernelFaults bool
	region       *os.File
	shared       *shared
	sharedFile   *os.File

	populating chan struct{} // bounds the threads in MADV_POPULATE

	mapMu  sync.RWMutex // read: the mapping is being advised; written: it is replaced
	opened int64        // bytes that are accessible

	mu      sync.Mutex // guards the fields below
	conn    *net.UnixConn
	seq     uint64
	calls   map[uint64]*call
	advices []message
	gen     uint64
	broken  error // no pager can be started any more
	closing bool
	done    bool // the pager has answered the call of Close
	child   *os.Process
	ended   chan struct{} // the socket has ended, and the supervisor that was started

	closed atomic.Bool
	hello  chan *Failure // the first answer of a supervisor
}

type call struct {
	m    message
	done chan *Failure
}

// RemoteError is a failure that the pager reported.
type RemoteError struct{ Failure }

func (e *RemoteError) Error() string { return e.Text }

// ErrGone says that the processes of the map have ended and cannot be started again.
var ErrGone = errors.New("nvmap: the pager has ended")

// Open makes the region and starts the processes. command is nil, or the command of a third party's
// pager.
func Open(conf Config, command []string, logger *slog.Logger) (*Client, error) {
	c := &Client{
		conf: conf, command: command, logger: logger,
		calls:      map[uint64]*call{},
		populating: make(chan struct{}, 16),
		hello:      make(chan *Failure, 1),
	}
	if err := c.makeRegion(); err != nil {
		c.release()
		return nil, err
	}
	if err := c.start(true); err != nil {
		c.release()
		return nil, err
	}
	if f := c.greeting(); f != nil {
		c.mu.Lock()
		c.closing = true
		ended := c.ended
		c.conn.Close()
		c.mu.Unlock()
		<-ended
		c.release()
		return nil, &RemoteError{*f}
	}
	if err := c.openTo(c.shared.size()); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// greetingTime is how long Open waits for a pager, beside the time for the lock of the medium. A
// command that is no pager may never answer.
const greetingTime = time.Minute

// greeting waits for the first greeting.
func (c *Client) greeting() *Failure {
	timer := time.NewTimer(greetingTime + c.conf.LockTime)
	defer timer.Stop()
	select {
	case f := <-c.hello:
		return f
	case <-timer.C:
	}
	c.mu.Lock()
	c.done = true
	_ = c.child.Kill()
	c.mu.Unlock()
	return &Failure{Text: fmt.Sprintf("nvmap: %q has not answered as a pager", c.command)}
}

// makeRegion maps the region, not accessible yet, and makes its faults events.
func (c *Client) makeRegion() (err error) {
	if c.faults, c.kernelFaults, err = uffd.New(); err != nil {
		c.faults = -1
		return fmt.Errorf("nvmap: %w", err)
	}
	if c.region, err = memfd("nvmap-region", c.conf.MaxBytes); err != nil {
		return err
	}
	n := uintptr(c.conf.MaxBytes)
	if c.base, err = unix.MmapPtr(int(c.region.Fd()), 0, nil, n, unix.PROT_NONE, unix.MAP_SHARED|unix.MAP_NORESERVE); err != nil {
		return fmt.Errorf("nvmap: reserving %d bytes of address space: %w", n, err)
	}
	for _, advice := range []int{unix.MADV_DONTFORK, unix.MADV_DONTDUMP, unix.MADV_NOHUGEPAGE} {
		// A kernel without huge pages refuses the last one.
		if err := c.madvise(0, c.conf.MaxBytes, advice); err != nil && advice != unix.MADV_NOHUGEPAGE {
			return fmt.Errorf("nvmap: madvise: %w", err)
		}
	}
	c.conf.Base = uint64(uintptr(c.base))
	if err := c.faults.Register(c.conf.Base, uint64(n)); err != nil {
		return fmt.Errorf("nvmap: userfaultfd refuses the region: %w", err)
	}
	c.shared, c.sharedFile, err = newShared(&c.conf)
	return err
}

func (c *Client) madvise(off, n int64, advice int) error {
	for {
		_, _, errno := unix.Syscall(unix.SYS_MADVISE, uintptr(c.base)+uintptr(off), uintptr(n), uintptr(advice))
		switch errno {
		case 0:
			return nil
		case unix.EINTR, unix.EAGAIN:
			continue
		}
		return errno
	}
}

// start starts a supervisor, which starts the pager. first says that Open waits for its greeting.
func (c *Client) start(first bool) error {
	ends, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("nvmap: socketpair: %w", err)
	}
	theirs := os.NewFile(uintptr(ends[1]), "pager")
	defer theirs.Close()
	ours := os.NewFile(uintptr(ends[0]), "control")
	conn, err := net.FileConn(ours)
	ours.Close()
	if err != nil {
		return fmt.Errorf("nvmap: %w", err)
	}
	faults, err := dup(int(c.faults))
	if err != nil {
		conn.Close()
		return fmt.Errorf("nvmap: %w", err)
	}
	defer faults.Close()
	cmd := Command(c.command, roleSupervisor)
	cmd.ExtraFiles = []*os.File{theirs, faults, c.region, c.sharedFile}
	if err := cmd.Start(); err != nil {
		conn.Close()
		return fmt.Errorf("nvmap: starting the pager: %w", err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.conn, c.ended = conn.(*net.UnixConn), make(chan struct{})
	ended := c.ended
	c.child = cmd.Process
	hello := c.hello
	if !first {
		hello = nil
	}
	go func() {
		c.listen(c.conn, hello)
		_ = cmd.Wait()
		close(ended)
		c.revive()
	}()
	return nil
}

func dup(fd int) (*os.File, error) {
	n, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(n), "faults"), nil
}

// Command returns the command of a supervisor or pager. Its settings of the garbage collector are
// its own, not the program's.
func Command(command []string, role string) *exec.Cmd {
	var cmd *exec.Cmd
	if len(command) > 0 {
		cmd = exec.Command(command[0], command[1:]...)
	} else {
		cmd = &exec.Cmd{Path: "/proc/self/exe", Args: []string{Argv0, role}}
	}
	for _, v := range os.Environ() {
		name, _, _ := strings.Cut(v, "=")
		switch name {
		case RoleVariable, "GOGC", "GOMAXPROCS", "GOMEMLIMIT":
			continue
		}
		cmd.Env = append(cmd.Env, v)
	}
	cmd.Env = append(cmd.Env, RoleVariable+"="+role)
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &unix.SysProcAttr{Setsid: true} // signals of the terminal are for the program
	return cmd
}

// listen takes answers and news until the socket ends. hello gets the first greeting, if it is not
// nil.
func (c *Client) listen(conn *net.UnixConn, hello chan *Failure) {
	buf := make([]byte, messageBytesMax)
	for {
		n, err := conn.Read(buf)
		if err != nil || n == 0 {
			break
		}
		var m message
		if err := json.Unmarshal(buf[:n], &m); err != nil {
			c.logger.Error("nvmap: a message of the pager is not understood", "error", err)
			continue
		}
		switch m.Op {
		case "hello":
			c.greeted(conn, m)
			if hello != nil {
				if m.Err != nil {
					c.mu.Lock()
					c.done = true // Open fails: nothing is started again
					c.mu.Unlock()
				}
				hello <- m.Err
				hello = nil
			}
		case "lost":
			c.logger.Warn("nvmap: a page cannot be brought in", "path", c.conf.Path, "offset", m.Off, "error", m.Err.Text)
		case "unmap":
			c.unmap(m.Ranges)
		default:
			c.mu.Lock()
			w := c.calls[m.Seq]
			delete(c.calls, m.Seq)
			c.done = c.done || w != nil && w.m.Op == "close"
			c.mu.Unlock()
			if w != nil {
				w.done <- m.Err
			}
		}
	}
	if hello != nil {
		c.mu.Lock()
		c.done = true
		c.mu.Unlock()
		hello <- &Failure{Text: "nvmap: the pager ended while it was started"}
	}
}

// greeted repeats what a new pager may not know.
func (c *Client) greeted(conn *net.UnixConn, m message) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if m.Gen > 1 {
		c.logger.Warn("nvmap: the pager was started again", "path", c.conf.Path, "generation", m.Gen)
	}
	if m.Err != nil && m.Gen > 1 {
		c.logger.Error("nvmap: the pager cannot reach the device", "path", c.conf.Path, "error", m.Err.Text)
	}
	if c.gen == m.Gen {
		return
	}
	c.gen = m.Gen
	for _, a := range c.advices {
		_ = send(conn, &a)
	}
	for _, w := range c.calls {
		_ = send(conn, &w.m)
	}
}

// revive starts a new supervisor after the death of supervisor and pager.
func (c *Client) revive() {
	for pause := time.Millisecond; ; pause *= 2 {
		c.mu.Lock()
		done := c.done
		c.mu.Unlock()
		if done {
			return
		}
		err := c.start(false)
		if err == nil {
			return
		}
		c.logger.Error("nvmap: the pager cannot be started again", "path", c.conf.Path, "error", err)
		if pause > 10*time.Second {
			c.giveUp(fmt.Errorf("%w: %w", ErrGone, err))
			return
		}
		time.Sleep(pause)
	}
}

// giveUp ends all calls, and poisons each page that anyone waits for.
func (c *Client) giveUp(err error) {
	c.mu.Lock()
	c.broken = err
	calls := c.calls
	c.calls = map[uint64]*call{}
	c.mu.Unlock()
	for _, w := range calls {
		w.done <- &Failure{Text: err.Error()}
	}
	_ = c.faults.Wake(c.conf.Base, uint64(c.conf.MaxBytes))
	buf := make([]uffd.Fault, 0, 16)
	for {
		fs, err := c.faults.Read(buf)
		if err != nil {
			return
		}
		for _, f := range fs {
			at := f.Addr &^ (PageBytes - 1)
			if f.Held || f.Minor {
				continue // the page has bytes that nobody may lose: the thread waits
			}
			_ = c.faults.Poison(at, PageBytes)
		}
	}
}

func send(conn *net.UnixConn, m *message) error {
	text, err := json.Marshal(m)
	if err != nil {
		return err
	}
	_, err = conn.Write(text)
	return err
}

// Call makes a control call and waits for its answer, also while the pager is started again.
func (c *Client) call(m message) error {
	w := &call{m: m, done: make(chan *Failure, 1)}
	c.mu.Lock()
	if c.broken != nil || c.closing && m.Op != "close" {
		err := c.broken
		c.mu.Unlock()
		if err == nil {
			err = os.ErrClosed
		}
		return err
	}
	c.seq++
	w.m.Seq = c.seq
	c.calls[c.seq] = w
	_ = send(c.conn, &w.m) // after an error the next pager gets it
	c.mu.Unlock()
	if f := <-w.done; f != nil {
		return &RemoteError{*f}
	}
	return nil
}

// openTo makes [0, size) accessible.
func (c *Client) openTo(size int64) error {
	c.mapMu.Lock()
	defer c.mapMu.Unlock()
	if size > c.conf.MaxBytes {
		return fmt.Errorf("nvmap: %s has %d bytes, more than the %d of address space reserved (PagedOptions.MaxBytes)", c.conf.Path, size, c.conf.MaxBytes)
	}
	if size <= c.opened {
		return nil
	}
	if err := unix.Mprotect(unsafe.Slice((*byte)(c.base), size)[c.opened:], unix.PROT_READ|unix.PROT_WRITE); err != nil {
		return fmt.Errorf("nvmap: opening %d bytes: %w", size, err)
	}
	c.opened = size
	return nil
}

// unmap takes pages out of the page tables, so that the next use is a fault that tells the pager.
func (c *Client) unmap(ranges [][2]uint64) {
	c.mapMu.RLock()
	defer c.mapMu.RUnlock()
	for _, r := range ranges {
		if c.closed.Load() || int64(r[1]) > c.opened {
			return
		}
		_ = c.madvise(int64(r[0]), int64(r[1]-r[0]), unix.MADV_DONTNEED)
	}
}

// Bytes returns the region up to the size of the medium.
func (c *Client) Bytes() []byte {
	n := c.Size()
	return unsafe.Slice((*byte)(c.base), n)[:n:n]
}

// Reserved returns the region. Its bytes beyond Size must not be touched.
func (c *Client) Reserved() []byte { return unsafe.Slice((*byte)(c.base), c.conf.MaxBytes) }

// Size returns the usable bytes. After Close it is 0.
func (c *Client) Size() int64 {
	c.mapMu.RLock()
	defer c.mapMu.RUnlock()
	if c.closed.Load() {
		return 0
	}
	return c.opened
}

// Contains reports whether an address lies in the region, and at which offset.
func (c *Client) Contains(addr uintptr) (int64, bool) {
	at := addr - uintptr(c.base)
	return int64(at), addr >= uintptr(c.base) && at < uintptr(c.conf.MaxBytes)
}

// Limit returns the bound of pages present, in bytes.
func (c *Client) Limit() int64 { return c.conf.Limit * PageBytes }

// Counters returns the counters.
func (c *Client) Counters() (Counters, uint64) {
	c.mapMu.RLock()
	defer c.mapMu.RUnlock()
	if c.closed.Load() {
		return Counters{}, 0
	}
	return c.shared.counters(), atomic.LoadUint64(&c.shared.h.generation)
}

// Sync makes durable what was stored before.
func (c *Client) Sync() error { return c.call(message{Op: "sync"}) }

// Grow makes at least size bytes usable.
func (c *Client) Grow(size int64) error {
	if size <= c.Size() {
		return nil
	}
	if size > c.conf.MaxBytes {
		return &RemoteError{Failure{Class: "full", Text: fmt.Sprintf("the address space reserved holds %d bytes, not %d", c.conf.MaxBytes, size)}}
	}
	if err := c.call(message{Op: "grow", N: size}); err != nil {
		return err
	}
	return c.openTo(c.shared.size())
}

// Advise passes on advice about [off, off+n).
func (c *Client) Advise(off, n int64, advice int) error {
	m := message{Op: "advise", Off: off, N: n, Advice: advice}
	if advice == AdviseNormal || advice == AdviseSequential || advice == AdviseRandom {
		c.mu.Lock()
		if advice == AdviseNormal && off == 0 && n >= c.opened {
			c.advices = nil
		}
		c.advices = append(c.advices, m)
		c.mu.Unlock()
	}
	return c.call(m)
}

// Prefault makes the pages of [off, off+n) present and mapped, for stores if write is set. It
// forgives pages that could not be read before, and tries them again.
func (c *Client) Prefault(off, n int64, write bool) error {
	end := (off + n + PageBytes - 1) &^ (PageBytes - 1)
	off &^= PageBytes - 1
	if end-off > c.Limit()/2 {
		return fmt.Errorf("nvmap: prefault of %d bytes, more than half of the cache of %d", end-off, c.Limit())
	}
	if c.poisoned(off, end) {
		if err := c.call(message{Op: "forgive", Off: off, N: end - off}); err != nil {
			return err
		}
		c.unmap([][2]uint64{{uint64(off), uint64(end)}})
	}
	if err := c.call(message{Op: "fetch", Off: off, N: end - off}); err != nil {
		return err
	}
	advice := unix.MADV_POPULATE_READ
	if write {
		advice = unix.MADV_POPULATE_WRITE
	}
	if !c.kernelFaults {
		return errors.ErrUnsupported // the caller touches the pages
	}
	c.populating <- struct{}{}
	defer func() { <-c.populating }()
	c.mapMu.RLock()
	defer c.mapMu.RUnlock()
	if c.closed.Load() {
		return os.ErrClosed
	}
	return c.madvise(off, end-off, advice)
}

// poisoned reports whether a page of [off, end) was given up.
func (c *Client) poisoned(off, end int64) bool {
	c.mapMu.RLock()
	defer c.mapMu.RUnlock()
	if c.closed.Load() {
		return false
	}
	for p := off / PageBytes; p < end/PageBytes; p++ {
		if c.shared.states[p]&isPoisoned != 0 {
			return true
		}
	}
	return false
}

// Close writes back, ends the processes, and makes every later access to the region fault. A second
// call returns nil.
func (c *Client) Close() error {
	c.mu.Lock()
	if c.closing {
		c.mu.Unlock()
		return nil
	}
	c.closing = true
	c.mu.Unlock()
	err := c.call(message{Op: "close"})
	c.mu.Lock()
	ended := c.ended
	c.mu.Unlock()
	<-ended
	c.conn.Close()
	if e := c.release(); err == nil {
		err = e
	}
	return err
}

// release gives everything back but the addresses, which fault from now on.
func (c *Client) release() error {
	c.mapMu.Lock()
	defer c.mapMu.Unlock()
	c.closed.Store(true)
	var err error
	if c.base != nil {
		_, err = unix.MmapPtr(-1, 0, c.base, uintptr(c.conf.MaxBytes), unix.PROT_NONE,
			unix.MAP_PRIVATE|unix.MAP_ANON|unix.MAP_NORESERVE|unix.MAP_FIXED)
	}
	if c.faults >= 0 {
		c.faults.Close()
	}
	for _, f := range []*os.File{c.region, c.sharedFile} {
		if f != nil {
			f.Close()
		}
	}
	if c.shared != nil {
		c.shared.unmap()
	}
	return err
}

// Span is the address range of a region.
type Span struct {
	base  unsafe.Pointer
	bytes uintptr
}

// Free gives the addresses of a closed map back. No pointer into the region may remain.
func (s Span) Free() { _ = unix.MunmapPtr(s.base, s.bytes) }

// Span returns the addresses of the region.
func (c *Client) Span() Span { return Span{c.base, uintptr(c.conf.MaxBytes)} }

// Space returns the bytes of address space that the region takes.
func (c *Client) Space() int64 { return c.conf.MaxBytes }

// Processes returns the process ids of supervisor and pager, for tests. Either may have ended.
func (c *Client) Processes() (supervisor, pager int) {
	h := c.shared.h
	return int(atomic.LoadUint64(&h.supervisor)), int(atomic.LoadUint64(&h.pid))
}
