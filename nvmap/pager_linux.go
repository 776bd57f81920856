package nvmap

import (
	"cmp"
	"io"
	"os"
	"slices"
	"sync"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"nvkv/internal/filegate"
)

// A pager moves pages between memory and a file that is open with O_DIRECT. Its methods return when
// all transfers have ended. Each transfer has an error of its own.
type pager interface {
	name() string
	read(ts []transfer)
	write(ts []transfer)
	close()
}

// transfer moves a run of neighbouring pages, from file offset off on. Each of bufs is one page and
// page-aligned in memory.
type transfer struct {
	off  int64
	bufs [][]byte
	end  int64 // end of the file, for reads: bytes beyond it are zero
	err  error
}

// transferPagesMax bounds a run (256 KiB). Longer runs gain nothing, and make others wait.
const transferPagesMax = 64

func (t *transfer) bytes() int64 { return int64(len(t.bufs)) * PageBytes }

// transfersOf groups neighbouring pages into transfers.
func transfersOf(pages map[PageID]*[PageBytes]byte) []transfer {
	ids := make([]PageID, 0, len(pages))
	for id := range pages {
		ids = append(ids, id)
	}
	slices.SortFunc(ids, func(a, b PageID) int { return cmp.Compare(a, b) })
	var ts []transfer
	for i, id := range ids {
		if i == 0 || id != ids[i-1]+1 || len(ts[len(ts)-1].bufs) == transferPagesMax {
			ts = append(ts, transfer{off: int64(id.Off())})
		}
		last := &ts[len(ts)-1]
		last.bufs = append(last.bufs, pages[id][:])
	}
	return ts
}

// newPage returns a page-aligned page of memory.
func newPage() *[PageBytes]byte {
	if p := new([PageBytes]byte); aligned(p[:]) {
		return p // the Go allocator usually aligns it
	}
	b := make([]byte, 2*PageBytes)
	pad := -uintptr(unsafe.Pointer(unsafe.SliceData(b))) & (PageBytes - 1)
	return (*[PageBytes]byte)(b[pad:])
}

func aligned(b []byte) bool {
	return uintptr(unsafe.Pointer(unsafe.SliceData(b)))&(PageBytes-1) == 0
}

// readEnded reports whether the first done bytes of a read reach the end of the file. If they do,
// it clears the rest of the buffers.
func (t *transfer) readEnded(done int64) bool {
	if t.off+done < t.end || t.end == 0 {
		return false
	}
	for page := done / PageBytes; page < int64(len(t.bufs)); page++ {
		clear(t.bufs[page][max(0, done-page*PageBytes):])
	}
	return true
}

// newPager returns the best pager that the system allows for a file.
func newPager(f *os.File, gate filegate.Gate) (pager, error) {
	raw, err := f.SyscallConn()
	if err != nil {
		return nil, err
	}
	calls := &callPager{raw, gate}
	if p, err := newRingPager(calls); err == nil {
		return p, nil
	}
	return calls, nil
}

// callPager moves pages with one system call for each run, from several goroutines.
type callPager struct {
	file syscall.RawConn // keeps the descriptor open during a call
	gate filegate.Gate   // nil except in tests
}

// callsAtOnce bounds the runs of a batch that are in flight at the same time.
const callsAtOnce = 16

func (p *callPager) name() string { return "O_DIRECT, preadv and pwritev" }

func (p *callPager) close() {}

func (p *callPager) read(ts []transfer) { p.all(ts, p.gated(filegate.Read, unix.Preadv)) }

func (p *callPager) write(ts []transfer) { p.all(ts, p.gated(filegate.Write, unix.Pwritev)) }

// vectorCall is preadv or pwritev.
type vectorCall func(fd int, bufs [][]byte, off int64) (int, error)

// gated puts the gate, if there is one, before a call. The gate may let a part pass, in whole
// pages.
func (p *callPager) gated(op filegate.Op, call vectorCall) vectorCall {
	if p.gate == nil {
		return call
	}
	return func(fd int, bufs [][]byte, off int64) (int, error) {
		t := transfer{off: off, bufs: bufs}
		pass, err := p.gate.Passes(op, off, t.bytes())
		if err == filegate.ErrLost {
			return int(t.bytes()), nil
		}
		pages := pass / PageBytes
		if pages == 0 && err != nil {
			return 0, err
		}
		pages = max(pages, 1) // a call without an error moves at least a page
		n, callErr := call(fd, bufs[:pages], off)
		return n, firstErr(callErr, err)
	}
}

// all moves all of ts, up to callsAtOnce of them at a time.
func (p *callPager) all(ts []transfer, call vectorCall) {
	withFile(p.file, ts, func(fd int) {
		if len(ts) == 1 {
			move(fd, &ts[0], 0, call)
			return
		}
		next := make(chan *transfer)
		var wg sync.WaitGroup
		for range min(callsAtOnce, len(ts)) {
			wg.Go(func() {
				for t := range next {
					move(fd, t, 0, call)
				}
			})
		}
		for i := range ts {
			next <- &ts[i]
		}
		close(next)
		wg.Wait()
	})
}

// withFile calls do with the descriptor, which stays open meanwhile. If the file is closed, it sets
// the error of all of ts.
func withFile(file syscall.RawConn, ts []transfer, do func(fd int)) {
	if err := file.Control(func(fd uintptr) { do(int(fd)) }); err != nil {
		for i := range ts {
			ts[i].err = err
		}
	}
}

// move repeats a system call until all of t is moved. The first done bytes are moved already.
func move(fd int, t *transfer, done int64, call vectorCall) {
	for done < t.bytes() && !t.readEnded(done) {
		page := done / PageBytes // if done ends inside a page, that page is moved again
		var n int
		err := retryIntr(func() (err error) {
			n, err = call(fd, t.bufs[page:], t.off+page*PageBytes)
			return err
		})
		now := page*PageBytes + int64(n)
		if err == nil && now <= done {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			t.err = err
			return
		}
		done = now
	}
}
