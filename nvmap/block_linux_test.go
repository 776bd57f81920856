package nvmap

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// seam stands between a block device and its pager. It counts the transfers and may interfere.
type seam struct {
	pager
	t testing.TB

	mu            sync.Mutex
	reads, writes int // transfers
	pages         int // pages in these transfers
	failWrites    error
	beforeWrite   func()
}

// check fails the test if a transfer is not of whole pages, or its memory is not page-aligned.
func (s *seam) check(ts []transfer, count *int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	*count += len(ts)
	for _, t := range ts {
		s.pages += len(t.bufs)
		if t.off%PageBytes != 0 || len(t.bufs) == 0 || len(t.bufs) > transferPagesMax {
			s.t.Errorf("a transfer of %d buffers at %#x", len(t.bufs), t.off)
		}
		for _, b := range t.bufs {
			if len(b) != PageBytes || !aligned(b) {
				s.t.Errorf("a transfer at %#x has a buffer of %d bytes, aligned: %v", t.off, len(b), aligned(b))
			}
		}
	}
}

func (s *seam) read(ts []transfer) {
	s.check(ts, &s.reads)
	s.pager.read(ts)
}

func (s *seam) write(ts []transfer) {
	s.check(ts, &s.writes)
	if s.beforeWrite != nil {
		s.beforeWrite()
	}
	if s.failWrites != nil {
		for i := range ts {
			ts[i].err = s.failWrites
		}
		return
	}
	s.pager.write(ts)
}

// openSeam opens a fresh block device of the given number of pages on a file.
func openSeam(t testing.TB, pages int64) (*blockDevice, *seam) {
	t.Helper()
	d, err := OpenDevice(filepath.Join(t.TempDir(), "disk"), OpenOptions{Kind: "block", Create: true, MaxBytes: 1 << 30})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	if err := d.Grow(pages * PageBytes); err != nil {
		t.Fatal(err)
	}
	b := d.(*blockDevice)
	s := &seam{pager: b.pager, t: t}
	b.pager = s
	return b, s
}

func mustDo(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestBlockMovesWholePages checks that every request moves whole pages only, and reads the right
// bytes.
func TestBlockMovesWholePages(t *testing.T) {
	const pages = 64
	d, s := openSeam(t, pages)
	r := rand.New(rand.NewPCG(7, 7))
	model := make([]byte, pages*PageBytes)
	for i := range 2000 {
		off := r.IntN(len(model))
		p := make([]byte, min(r.IntN(3*PageBytes>>r.IntN(12))+1, len(model)-off))
		if i%2 == 0 {
			mustDo(t, d.Read(Off(off), p))
			if !bytes.Equal(p, model[off:off+len(p)]) {
				t.Fatalf("step %d: %d bytes at %#x differ", i, len(p), off)
			}
			continue
		}
		for j := range p {
			p[j] = byte(r.Uint32())
		}
		copy(model[off:], p)
		mustDo(t, d.Write(Off(off), p))
		if r.IntN(10) == 0 {
			mustDo(t, d.Fence())
		}
	}
	if s.reads == 0 || s.writes == 0 {
		t.Errorf("%d transfers read, %d written: the seam sees nothing", s.reads, s.writes)
	}
	mustDo(t, d.Fence())
	got, err := os.ReadFile(d.path)
	if err != nil || !bytes.Equal(got, model) {
		t.Errorf("the file holds something else: %v", err)
	}
}

// TestBlockCoalesces checks that small writes to a page cost one read and, at the fence, one write;
// that a page that is written whole costs no read; and that neighbours share a transfer.
func TestBlockCoalesces(t *testing.T) {
	d, s := openSeam(t, 256)
	want := func(what string, reads, writes, pages int) {
		t.Helper()
		if s.reads != reads || s.writes != writes || s.pages != pages {
			t.Errorf("%s: %d transfers read, %d written, %d pages in them; want %d, %d, %d",
				what, s.reads, s.writes, s.pages, reads, writes, pages)
		}
		s.reads, s.writes, s.pages = 0, 0, 0
	}
	for i := range 100 {
		mustDo(t, d.Write(Off(3*PageBytes+i*40), []byte("a small write")))
	}
	want("staging", 1, 0, 1)
	mustDo(t, d.Read(3*PageBytes, make([]byte, 1000)))
	want("reading what is staged", 0, 0, 0)
	mustDo(t, d.Fence())
	want("the fence", 0, 1, 1)
	mustDo(t, d.Write(3*PageBytes+4000, []byte("the next")))
	want("a page that was just written", 0, 0, 0)
	mustDo(t, d.Fence())
	want("its fence", 0, 1, 1)
	mustDo(t, d.Read(3*PageBytes, make([]byte, 100)))
	want("reading what the disk has", 1, 0, 1)
	mustDo(t, d.Write(10*PageBytes, make([]byte, 100*PageBytes)))
	want("whole pages", 0, 0, 0)
	mustDo(t, d.Fence())
	want("100 neighbours", 0, 2, 100)
	for page := range 20 {
		mustDo(t, d.Write(Off(page*8*PageBytes), make([]byte, PageBytes)))
	}
	mustDo(t, d.Fence())
	want("20 strangers", 0, 20, 20)
	mustDo(t, d.Fence())
	want("nothing", 0, 0, 0)
}

// TestBlockStagesLittle checks that the DRAM of staged pages is bounded without a fence.
func TestBlockStagesLittle(t *testing.T) {
	const pages = 4 * stagedPagesMax
	d, s := openSeam(t, pages)
	for page := range pages {
		mustDo(t, d.Write(Off(page*PageBytes), make([]byte, PageBytes)))
		if len(d.staged) > stagedPagesMax {
			t.Fatalf("%d pages staged", len(d.staged))
		}
	}
	if s.pages < pages-stagedPagesMax {
		t.Errorf("%d of %d pages written", s.pages, pages)
	}
}

// TestBlockKeepsLittle checks that the DRAM of kept pages is bounded, and that Discard frees it.
func TestBlockKeepsLittle(t *testing.T) {
	d, s := openSeam(t, 1024)
	mustDo(t, d.Write(0, bytes.Repeat([]byte{7}, 1024*PageBytes)))
	mustDo(t, d.Fence())
	if len(d.kept) > keptPagesMax {
		t.Errorf("%d pages kept", len(d.kept))
	}
	mustDo(t, d.Write(5*PageBytes, []byte{8}))
	mustDo(t, d.Fence())
	mustDo(t, d.Discard(5*PageBytes, PageBytes))
	mustDo(t, d.Allocate(5*PageBytes, PageBytes))
	s.reads = 0
	mustDo(t, d.Write(5*PageBytes+1, []byte{9}))
	got := make([]byte, 3)
	mustDo(t, d.Read(5*PageBytes, got))
	if zero, before := []byte{0, 9, 0}, []byte{8, 9, 7}; !bytes.Equal(got, zero) && !bytes.Equal(got, before) {
		t.Errorf("a page that was discarded and written to begins with %v", got)
	}
	if s.reads != 1 {
		t.Errorf("%d reads: nobody looked what the disk has of the page", s.reads)
	}
}

// TestBlockWriteWhileTravelling checks that a page may be written while it travels: the new bytes
// follow later, none are lost, and readers see them at once.
func TestBlockWriteWhileTravelling(t *testing.T) {
	d, s := openSeam(t, 4)
	mustDo(t, d.Write(100, []byte("first")))
	s.beforeWrite = func() {
		s.beforeWrite = nil
		mustDo(t, d.Write(200, []byte("second")))
		got := make([]byte, 106)
		mustDo(t, d.Read(100, got))
		if string(got[:5]) != "first" || string(got[100:]) != "second" {
			t.Errorf("read %q and %q", got[:5], got[100:])
		}
	}
	mustDo(t, d.Fence())
	onDisk := func(off int64, want string) {
		t.Helper()
		b, err := os.ReadFile(d.path)
		mustDo(t, err)
		if got := string(b[off:][:len(want)]); got != want {
			t.Errorf("the disk has %q at %d, not %q", got, off, want)
		}
	}
	onDisk(100, "first")
	onDisk(200, "\x00\x00\x00\x00\x00\x00")
	mustDo(t, d.Fence())
	onDisk(100, "first")
	onDisk(200, "second")
}

// TestBlockFailedWrite checks that pages whose write failed can still be read, and that the next
// fence writes them again.
func TestBlockFailedWrite(t *testing.T) {
	d, s := openSeam(t, 4)
	mustDo(t, d.Write(2*PageBytes+5, []byte("kept")))
	s.failWrites = unix.EIO
	var fault *FaultError
	if err := d.Fence(); !errors.As(err, &fault) || fault.Off != 2*PageBytes || !errors.Is(err, unix.EIO) {
		t.Fatalf("a fence whose write fails: %v", err)
	}
	got := make([]byte, 4)
	mustDo(t, d.Read(2*PageBytes+5, got))
	if string(got) != "kept" {
		t.Errorf("read %q", got)
	}
	s.failWrites = nil
	mustDo(t, d.Fence())
	if s.writes != 2 {
		t.Errorf("%d transfers, not one for each fence", s.writes)
	}
}

// TestBlockPartOfAPage checks that a file that ends inside a page is read to its end, and takes no
// write there until it has grown.
func TestBlockPartOfAPage(t *testing.T) {
	path := filepath.Join(t.TempDir(), "disk")
	text := bytes.Repeat([]byte("0123456789"), 500)
	mustDo(t, os.WriteFile(path, text, 0o600))
	d, err := OpenDevice(path, OpenOptions{Kind: "block"})
	mustDo(t, err)
	defer d.Close()
	if d.Size() != 2*PageBytes {
		t.Errorf("size %d", d.Size())
	}
	got := make([]byte, 2*PageBytes)
	mustDo(t, d.Read(0, got))
	if !bytes.Equal(got[:len(text)], text) || !bytes.Equal(got[len(text):], make([]byte, len(got)-len(text))) {
		t.Error("other bytes")
	}
	if d.Write(4990, []byte("x")) == nil {
		t.Error("a write to a page that the file has not got")
	}
	mustDo(t, d.Grow(2*PageBytes))
	mustDo(t, d.Write(4990, []byte("x")))
	mustDo(t, d.Fence())
	text[4990] = 'x'
	if b, err := os.ReadFile(path); err != nil || len(b) != 2*PageBytes || !bytes.Equal(b[:len(text)], text) {
		t.Errorf("%d bytes in the file, %v", len(b), err)
	}
}

// TestPagersReportErrors checks that each transfer of a batch has its own error, with and without
// the ring.
func TestPagersReportErrors(t *testing.T) {
	path := filepath.Join(t.TempDir(), "disk")
	mustDo(t, os.WriteFile(path, make([]byte, 64*PageBytes), 0o600))
	f, err := os.Open(path)
	mustDo(t, err)
	defer f.Close()
	raw, err := f.SyscallConn()
	mustDo(t, err)
	calls := &callPager{file: raw}
	pagers := map[string]pager{"calls": calls}
	if ring, err := newRingPager(calls); err == nil {
		pagers["ring"] = ring
		defer ring.close()
	} else {
		t.Logf("NOT TESTED: io_uring: %v", err)
	}
	for name, p := range pagers {
		t.Run(name, func(t *testing.T) {
			ts := make([]transfer, 200)
			for i := range ts {
				ts[i] = transfer{off: int64(i) * PageBytes, bufs: [][]byte{newPage()[:]}}
			}
			p.read(ts)
			for i, tr := range ts {
				if there := i < 64; (tr.err == nil) != there {
					t.Errorf("page %d of 64: %v", i, tr.err)
				}
			}
			for i := range ts {
				ts[i].err = nil
			}
			p.write(ts)
			for i, tr := range ts {
				if !errors.Is(tr.err, unix.EBADF) {
					t.Errorf("page %d written to what is open for reading: %v", i, tr.err)
				}
			}
		})
	}
}

// TestBlockClosed checks that a closed device refuses every call, and does not use its old
// descriptor, which may name another file now.
func TestBlockClosed(t *testing.T) {
	d, _ := openSeam(t, 4)
	mustDo(t, d.Write(0, []byte("staged")))
	mustDo(t, d.Close())
	for what, err := range map[string]error{
		"Fence": d.Fence(), "ReadBatch": d.ReadBatch([]PageRead{{Buf: make([]byte, PageBytes)}}), "flush": d.flush(),
	} {
		if !errors.Is(err, ErrClosed) {
			t.Errorf("%s: %v", what, err)
		}
	}
	ts := []transfer{{bufs: [][]byte{newPage()[:]}}, {bufs: [][]byte{newPage()[:]}}}
	d.pager.read(ts)
	if ts[0].err == nil || ts[1].err == nil {
		t.Error("a pager reads from a closed file")
	}
}

// filled opens a block device whose pages begin with their numbers.
func filled(t testing.TB, pages int64) (*blockDevice, *seam) {
	d, s := openSeam(t, pages)
	p := make([]byte, PageBytes)
	for page := range PageID(pages) {
		binary.LittleEndian.PutUint64(p, uint64(page))
		mustDo(t, d.Write(page.Off(), p))
	}
	mustDo(t, d.Fence())
	return d, s
}

// readRandom reads n random pages, depth at a time.
func readRandom(t testing.TB, d *blockDevice, r *rand.Rand, n, depth int) {
	reqs := make([]PageRead, depth)
	for i := range reqs {
		reqs[i].Buf = newPage()[:]
	}
	pages := uint64(d.Size() / PageBytes)
	for range n / depth {
		for i := range reqs {
			reqs[i].Page = PageID(r.Uint64N(pages))
		}
		mustDo(t, d.ReadBatch(reqs))
		for i := range reqs {
			if got := binary.LittleEndian.Uint64(reqs[i].Buf); got != uint64(reqs[i].Page) {
				t.Fatalf("page %d reads as page %d", reqs[i].Page, got)
			}
		}
	}
}

// TestBlockQueueDepth reports the cost of reading one page at a time, and many at a time. No
// transfer is smaller than a page.
func TestBlockQueueDepth(t *testing.T) {
	const pages, reads = 8192, 1024
	d, s := filled(t, pages)
	written := s.pages
	r := rand.New(rand.NewPCG(1, 1))
	depths := []int{1, 4, 16, 64}
	for _, depth := range depths {
		began := time.Now()
		readRandom(t, d, r, reads, depth)
		took := time.Since(began)
		t.Logf("%s: %2d pages at a time: %6.0f pages/s, %6.1f MB/s", d.pager.name(), depth,
			reads/took.Seconds(), reads*PageBytes/took.Seconds()/1e6)
	}
	if got := s.pages - written; got != reads*len(depths) || s.reads != got {
		t.Errorf("%d transfers of %d pages for %d pages wanted", s.reads, got, reads*len(depths))
	}
}

func BenchmarkBlockRead(b *testing.B) {
	d, s := filled(b, 8192)
	ring := s.pager
	r := rand.New(rand.NewPCG(1, 1))
	for _, p := range []pager{ring, without(ring)} {
		s.pager = p
		for _, depth := range []int{1, 4, 16, 64} {
			b.Run(fmt.Sprintf("%s/%d", p.name(), depth), func(b *testing.B) {
				b.SetBytes(int64(depth) * PageBytes)
				for b.Loop() {
					readRandom(b, d, r, depth, depth)
				}
			})
		}
	}
}

// without returns the pager that is used where io_uring is not allowed.
func without(p pager) pager {
	if r, ok := p.(*ringPager); ok {
		return r.calls
	}
	return p
}
