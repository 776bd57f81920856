package nvmap

import (
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"nvkv/internal/filegate"
)

// ringPager moves batches of pages through io_uring: one system call submits many runs and waits
// for them. A single run costs one system call in any case, and uses callPager.
type ringPager struct {
	calls *callPager

	mu     sync.Mutex
	idle   []*ring
	rings  int // idle ones and those in use
	closed bool
}

// ringsMax bounds the batches in flight through rings. Further batches use callPager.
const ringsMax = 4

// newRingPager fails if the system does not allow io_uring.
func newRingPager(calls *callPager) (*ringPager, error) {
	r, err := newRing()
	if err != nil {
		return nil, err
	}
	return &ringPager{calls: calls, idle: []*ring{r}, rings: 1}, nil
}

func (p *ringPager) name() string { return "O_DIRECT, io_uring" }

func (p *ringPager) read(ts []transfer) {
	p.all(ts, ringReadv, p.calls.gated(filegate.Read, unix.Preadv))
}

func (p *ringPager) write(ts []transfer) {
	p.all(ts, ringWritev, p.calls.gated(filegate.Write, unix.Pwritev))
}

func (p *ringPager) all(ts []transfer, op uint8, call vectorCall) {
	var r *ring
	if len(ts) > 1 {
		r = p.take()
	}
	if r == nil {
		p.calls.all(ts, call)
		return
	}
	defer p.put(r)
	withFile(p.calls.file, ts, func(fd int) {
		for i, done := range r.run(fd, op, ts) {
			done = p.passed(op, &ts[i], done)
			if ts[i].err == nil { // short, or not submitted
				move(fd, &ts[i], done, call)
			}
		}
	})
}

// passed returns how many of the moved bytes the gate, if there is one, lets pass.
func (p *ringPager) passed(op uint8, t *transfer, done int64) int64 {
	if p.calls.gate == nil || t.err != nil {
		return done
	}
	of := map[uint8]filegate.Op{ringReadv: filegate.Read, ringWritev: filegate.Write}[op]
	pass, err := p.calls.gate.Passes(of, t.off, t.bytes())
	t.err = err
	return min(done, pass)
}

// take returns a ring, or nil if all ringsMax are in use.
func (p *ringPager) take() *ring {
	p.mu.Lock()
	defer p.mu.Unlock()
	if n := len(p.idle); n > 0 {
		r := p.idle[n-1]
		p.idle = p.idle[:n-1]
		return r
	}
	if p.closed || p.rings == ringsMax {
		return nil
	}
	r, err := newRing()
	if err != nil {
		return nil
	}
	p.rings++
	return r
}

func (p *ringPager) put(r *ring) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		r.close()
		return
	}
	p.idle = append(p.idle, r)
}

func (p *ringPager) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	for _, r := range p.idle {
		r.close()
	}
	p.idle = nil
}

// ring is an io_uring that one goroutine uses at a time. It has a queue of requests and a queue of
// results, shared with the kernel. Each side moves an index of its own. See io_uring(7).
type ring struct {
	fd      int
	queues  []byte // the mapping of both queues
	entries []byte // the mapping of the requests

	sqHead, sqTail *uint32 // moved by the kernel, by us
	cqHead, cqTail *uint32 // moved by us, by the kernel
	sqMask, cqMask uint32
	sqes           []ringRequest
	cqes           unsafe.Pointer // array of ringResult
	slots          []uint32       // maps each place in the queue to a request: the identity
	vectors        [][]unix.Iovec // the iovecs of the request in each place
}

// ringEntries bounds the runs in flight.
const ringEntries = 64

// These are constants of the kernel, named IORING_* there.
const (
	ringReadv       = 1
	ringWritev      = 2
	ringOffRequests = 0x10000000 // IORING_OFF_SQES
	ringGetEvents   = 1 << 0     // IORING_ENTER_GETEVENTS

	// ringNeeds is IORING_FEAT_SINGLE_MMAP, NODROP (no result is lost) and SUBMIT_STABLE (memory
	// that a request points to may be reused once it is submitted).
	ringNeeds = 1<<0 | 1<<1 | 1<<2
)

// ringParams is struct io_uring_params.
type ringParams struct {
	sqEntries, cqEntries, flags, sqThreadCPU, sqThreadIdle, features, wqFD uint32
	_                                                                      [3]uint32
	sq                                                                     ringOffsets
	cq                                                                     ringOffsets
}

// ringOffsets is struct io_sqring_offsets and io_cqring_offsets. Their last fields differ: dropped
// and array in the first, overflow and cqes in the second.
type ringOffsets struct {
	head, tail, mask, entries uint32
	at                        [4]uint32 // sq: flags, dropped, array; cq: overflow, cqes, flags
	_                         uint64
}

// ringRequest is struct io_uring_sqe.
type ringRequest struct {
	op    uint8
	_     uint8
	_     uint16
	fd    int32
	off   uint64
	addr  uint64
	n     uint32
	flags uint32
	user  uint64
	_     [3]uint64
}

// ringResult is struct io_uring_cqe.
type ringResult struct {
	user  uint64
	res   int32
	flags uint32
}

var (
	_ [120]byte = [unsafe.Sizeof(ringParams{})]byte{}
	_ [64]byte  = [unsafe.Sizeof(ringRequest{})]byte{}
	_ [16]byte  = [unsafe.Sizeof(ringResult{})]byte{}
)

func newRing() (*ring, error) {
	var p ringParams
	fd, _, errno := unix.Syscall(unix.SYS_IO_URING_SETUP, ringEntries, uintptr(unsafe.Pointer(&p)), 0)
	if errno != 0 {
		return nil, fmt.Errorf("io_uring_setup: %w", errno)
	}
	r := &ring{fd: int(fd)}
	unix.CloseOnExec(r.fd)
	if err := r.mmap(&p); err != nil {
		r.close()
		return nil, err
	}
	return r, nil
}

// mmap maps the ring and finds its parts.
func (r *ring) mmap(p *ringParams) (err error) {
	if p.features&ringNeeds != ringNeeds {
		return errors.New("io_uring: a kernel before 5.5")
	}
	const prot, flags = unix.PROT_READ | unix.PROT_WRITE, unix.MAP_SHARED | unix.MAP_POPULATE
	queueBytes := max(p.sq.at[2]+p.sqEntries*4, p.cq.at[1]+p.cqEntries*uint32(unsafe.Sizeof(ringResult{})))
	if r.queues, err = unix.Mmap(r.fd, 0, int(queueBytes), prot, flags); err != nil {
		return err
	}
	requestBytes := int(p.sqEntries) * int(unsafe.Sizeof(ringRequest{}))
	if r.entries, err = unix.Mmap(r.fd, ringOffRequests, requestBytes, prot, flags); err != nil {
		return err
	}
	base := unsafe.Pointer(unsafe.SliceData(r.queues))
	word := func(off uint32) *uint32 { return (*uint32)(unsafe.Add(base, off)) }
	r.sqHead, r.sqTail, r.sqMask = word(p.sq.head), word(p.sq.tail), *word(p.sq.mask)
	r.cqHead, r.cqTail, r.cqMask = word(p.cq.head), word(p.cq.tail), *word(p.cq.mask)
	r.cqes = unsafe.Add(base, p.cq.at[1])
	r.sqes = unsafe.Slice((*ringRequest)(unsafe.Pointer(unsafe.SliceData(r.entries))), p.sqEntries)
	r.slots = unsafe.Slice(word(p.sq.at[2]), p.sqEntries)
	for i := range r.slots {
		r.slots[i] = uint32(i)
	}
	r.vectors = make([][]unix.Iovec, p.sqEntries)
	return nil
}

func (r *ring) close() {
	if r.entries != nil {
		_ = unix.Munmap(r.entries)
	}
	if r.queues != nil {
		_ = unix.Munmap(r.queues)
	}
	_ = unix.Close(r.fd)
}

// run moves all of ts and returns the number of bytes moved for each. A transfer that the kernel
// did not accept has 0 bytes and no error. run returns only when no transfer is in flight, because
// the kernel writes to the buffers until then.
func (r *ring) run(fd int, op uint8, ts []transfer) []int64 {
	done := make([]int64, len(ts))
	next, flying := 0, 0
	for next < len(ts) || flying > 0 {
		for ; next < len(ts) && flying < len(r.sqes); next++ {
			r.push(fd, op, &ts[next], next)
			flying++
		}
		if err := r.enter(flying); err != nil {
			// The kernel may be out of memory for requests. Withdraw the requests that it did not
			// take.
			back := int(atomic.LoadUint32(r.sqTail) - atomic.LoadUint32(r.sqHead))
			atomic.StoreUint32(r.sqTail, atomic.LoadUint32(r.sqHead))
			flying -= back
			next = len(ts)
			if flying > 0 {
				time.Sleep(time.Millisecond)
			}
		}
		flying -= r.reap(ts, done)
	}
	runtime.KeepAlive(ts)
	return done
}

// push makes a request for t. There is a free place: enter has submitted all earlier requests, and
// run keeps at most as many in flight as the ring has.
func (r *ring) push(fd int, op uint8, t *transfer, user int) {
	tail := *r.sqTail
	slot := tail & r.sqMask
	iovs := r.vectors[slot][:0]
	for _, b := range t.bufs {
		v := unix.Iovec{Base: unsafe.SliceData(b)}
		v.SetLen(len(b))
		iovs = append(iovs, v)
	}
	r.vectors[slot] = iovs
	r.sqes[slot] = ringRequest{op: op, fd: int32(fd), off: uint64(t.off), user: uint64(user),
		addr: uint64(uintptr(unsafe.Pointer(unsafe.SliceData(iovs)))), n: uint32(len(iovs))}
	atomic.StoreUint32(r.sqTail, tail+1)
}

// enter submits the pushed requests and waits for a result if any are in flight.
func (r *ring) enter(flying int) error {
	for {
		send := atomic.LoadUint32(r.sqTail) - atomic.LoadUint32(r.sqHead)
		_, _, errno := unix.Syscall6(unix.SYS_IO_URING_ENTER, uintptr(r.fd), uintptr(send),
			uintptr(min(flying, 1)), ringGetEvents, 0, 0)
		switch errno {
		case 0:
			return nil
		case unix.EINTR:
			continue
		}
		return errno
	}
}

// reap takes the results and returns their number.
func (r *ring) reap(ts []transfer, done []int64) int {
	head, tail := *r.cqHead, atomic.LoadUint32(r.cqTail)
	n := int(tail - head)
	for ; head != tail; head++ {
		c := (*ringResult)(unsafe.Add(r.cqes, uintptr(head&r.cqMask)*unsafe.Sizeof(ringResult{})))
		switch {
		case c.res >= 0:
			done[c.user] = int64(c.res)
		case unix.Errno(-c.res) == unix.EINTR || unix.Errno(-c.res) == unix.EAGAIN:
			// not moved; callPager's move tries again
		default:
			ts[c.user].err = unix.Errno(-c.res)
		}
	}
	atomic.StoreUint32(r.cqHead, head)
	return n
}
