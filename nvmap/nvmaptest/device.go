// Package nvmaptest checks that a device keeps the promises of nvmap.Device.
package nvmaptest

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime/debug"
	"sync/atomic"
	"testing"
	"unsafe"

	"nvkv/nvmap"
)

// TestDevice runs the suite on devices that open returns. A device is either fresh, empty and able
// to grow to 8 MiB, or of a fixed size of at least 8 MiB. The suite overwrites the contents of a
// device of fixed size. It closes the devices, and has one open at a time.
func TestDevice(t *testing.T, open func(t *testing.T) nvmap.Device) {
	for _, test := range []struct {
		name string
		run  func(*testing.T, nvmap.Device)
	}{
		{"Info", testInfo},
		{"Grow", testGrow},
		{"Ranges", testRanges},
		{"Fixed", testFixed},
		{"Writes", testWrites},
		{"SharedPages", testSharedPages},
		{"Batch", testBatch},
		{"WholeWords", testWholeWords},
		{"Discard", testDiscard},
		{"ReadOnlyMapping", testReadOnlyMapping},
		{"Close", func(t *testing.T, d nvmap.Device) {
			must(t, d.Grow(nvmap.PageBytes))
			testClose(t, d)
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			d := open(t)
			defer d.Close()
			test.run(t, d)
		})
	}
}

// TestReadOnly runs the suite of a device that was opened for reading, of at least one page. Each
// change must return nvmap.ErrReadOnly and leave the bytes and the size alone. It closes d.
//
// Neither this suite nor TestDevice can make a medium fail: that a failed access is a
// *nvmap.FaultError is for the device's own tests.
func TestReadOnly(t *testing.T, d nvmap.Device) {
	t.Helper()
	defer d.Close()
	size := d.Size()
	before, after := make([]byte, nvmap.PageBytes), make([]byte, nvmap.PageBytes)
	must(t, d.Read(0, before))
	for what, err := range map[string]error{
		"Write":    d.Write(0, []byte{^before[0]}),
		"Grow":     d.Grow(size + 1),
		"Discard":  d.Discard(0, nvmap.PageBytes),
		"Allocate": d.Allocate(0, nvmap.PageBytes),
	} {
		if !errors.Is(err, nvmap.ErrReadOnly) {
			t.Errorf("%s on a read-only device: %v", what, err)
		}
	}
	if err := d.Fence(); err != nil {
		t.Errorf("nothing was written, so there is nothing to fence: %v", err)
	}
	must(t, d.Read(0, after))
	if !bytes.Equal(before, after) || d.Size() != size {
		t.Errorf("a refused change changed the first page or the size of %d, now %d", size, d.Size())
	}
	if view := d.Mapping(); view != nil && !bytes.Equal(view[:nvmap.PageBytes], before) {
		t.Error("the mapping differs from Read")
	}
	testClose(t, d)
}

// ready makes the first n bytes of d usable and zero.
func ready(t *testing.T, d nvmap.Device, n int64) {
	t.Helper()
	fixed := d.Size() > 0
	must(t, d.Grow(n))
	if fixed {
		must(t, d.Write(0, make([]byte, n)))
		must(t, d.Fence())
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func testInfo(t *testing.T, d nvmap.Device) {
	info := d.Info()
	if info.Kind == "" || info.Why == "" || info.Domain == "" || info.Mover == "" {
		t.Errorf("a device says what it is: %+v", info)
	}
	if info.Unit <= 0 || info.Sector <= 0 || info.MaxBytes < 8<<20 {
		t.Errorf("units and bounds are positive: %+v", info)
	}
	if info.Mapped != (d.Mapping() != nil) {
		t.Errorf("Mapped is %v, and the mapping is nil: %v", info.Mapped, d.Mapping() == nil)
	}
	if d.Mapping() != nil && int64(len(d.Mapping())) != info.MaxBytes {
		t.Errorf("mapping of %d bytes, reserved %d", len(d.Mapping()), info.MaxBytes)
	}
}

func testGrow(t *testing.T, d nvmap.Device) {
	if d.Size() != 0 {
		t.Skip("a device of fixed size")
	}
	must(t, d.Grow(1))
	if size := d.Size(); size < 1 || size%nvmap.PageBytes != 0 {
		t.Fatalf("grown to %d bytes, not to whole pages", size)
	}
	must(t, d.Write(0, []byte("stays")))
	must(t, d.Fence())
	view := d.Mapping()
	for _, size := range []int64{10000, 3 << 20, 5 << 20, 100} {
		before := d.Size()
		must(t, d.Grow(size))
		if d.Size() < max(size, before) {
			t.Fatalf("Grow(%d) from %d left %d bytes", size, before, d.Size())
		}
	}
	got := make([]byte, d.Size())
	must(t, d.Read(0, got))
	want := make([]byte, d.Size())
	copy(want, "stays")
	if !bytes.Equal(got, want) {
		t.Error("new bytes read as zero and old ones stay")
	}
	if view != nil && !bytes.Equal(view[:d.Size()], want) {
		t.Error("a mapping taken before growth shows what was grown")
	}
	size := d.Size()
	if err := d.Grow(d.Info().MaxBytes + 1); !errors.Is(err, nvmap.ErrFull) {
		t.Errorf("growing beyond MaxBytes: %v", err)
	}
	if d.Size() != size {
		t.Errorf("a failed Grow changed the size to %d", d.Size())
	}
}

// testFixed checks that a device of fixed size refuses growth.
func testFixed(t *testing.T, d nvmap.Device) {
	size := d.Size()
	if size == 0 {
		t.Skip("a device that grows")
	}
	if size%nvmap.PageBytes != 0 || size != d.Info().MaxBytes {
		t.Errorf("a fixed size of %d bytes, which can become %d", size, d.Info().MaxBytes)
	}
	must(t, d.Grow(1))
	must(t, d.Grow(size))
	if err := d.Grow(size + 1); !errors.Is(err, nvmap.ErrFull) {
		t.Errorf("growing beyond a fixed size: %v", err)
	}
	if d.Size() != size {
		t.Errorf("the size went from %d to %d", size, d.Size())
	}
	end := []byte("the last bytes")
	at := nvmap.Off(size) - nvmap.Off(len(end))
	must(t, d.Write(at, end))
	must(t, d.Fence())
	got := make([]byte, len(end))
	must(t, d.Read(at, got))
	if !bytes.Equal(got, end) {
		t.Errorf("the end holds %q", got)
	}
}

func testRanges(t *testing.T, d nvmap.Device) {
	must(t, d.Grow(nvmap.PageBytes))
	size := nvmap.Off(d.Size())
	p := make([]byte, 16)
	for _, off := range []nvmap.Off{size - 15, size, size + 1, 1 << 62, ^nvmap.Off(0), ^nvmap.Off(0) - 15} {
		if d.Write(off, p) == nil {
			t.Errorf("Write at %#x of %#x", off, size)
		}
		if d.Read(off, p) == nil {
			t.Errorf("Read at %#x of %#x", off, size)
		}
		if d.Discard(off, 16) == nil {
			t.Errorf("Discard at %#x of %#x", off, size)
		}
		if d.Allocate(off, 16) == nil {
			t.Errorf("Allocate at %#x of %#x", off, size)
		}
	}
	if d.Discard(0, -1) == nil || d.Allocate(0, -1) == nil {
		t.Error("a negative length is an error")
	}
	must(t, d.Write(size-16, p))
	must(t, d.Write(size, nil))
	must(t, d.Read(size, nil))
}

// testWrites compares random unaligned writes with a model.
func testWrites(t *testing.T, d nvmap.Device) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	ready(t, d, 1<<20)
	model := make([]byte, 1<<20)
	for i := range 4000 {
		n := r.IntN(200)
		if i%50 == 0 {
			n = r.IntN(150_000)
		}
		off := r.IntN(len(model) - n)
		if r.IntN(2) == 0 {
			off &^= 63
		}
		p := make([]byte, n)
		for j := range p {
			p[j] = byte(r.Uint32())
		}
		copy(model[off:], p)
		must(t, d.Write(nvmap.Off(off), p))
		clear(p) // the caller may reuse p
		if r.IntN(20) == 0 {
			from := r.IntN(len(model))
			got := make([]byte, min(r.IntN(5000), len(model)-from))
			must(t, d.Read(nvmap.Off(from), got))
			if !bytes.Equal(got, model[from:from+len(got)]) {
				t.Fatalf("write %d: Read differs from the model in [%#x, %#x)", i, from, from+len(got))
			}
		}
		if r.IntN(100) == 0 {
			must(t, d.Fence())
			if view := d.Mapping(); view != nil && !bytes.Equal(view[:len(model)], model) {
				t.Fatalf("write %d: the mapping differs from the model after a fence", i)
			}
		}
	}
}

// testSharedPages has goroutines write disjoint ranges in the same pages, each with fences of its
// own. A goroutine reads its own writes, at once and after its fence.
func testSharedPages(t *testing.T, d nvmap.Device) {
	const workers, slot, pages, rounds = 4, 200, 8, 60
	ready(t, d, pages*nvmap.PageBytes)
	slots := pages * nvmap.PageBytes / slot / workers
	errs := make(chan error, workers)
	for w := range workers {
		go func() {
			errs <- func() error {
				r := rand.New(rand.NewPCG(uint64(w), 0))
				got := make([]byte, slot)
				for i := range rounds {
					off := nvmap.Off((r.IntN(slots)*workers + w) * slot)
					want := bytes.Repeat([]byte{byte(w<<6 | i)}, slot)
					if err := d.Write(off, want); err != nil {
						return err
					}
					if i%3 == 0 {
						if err := d.Fence(); err != nil {
							return err
						}
					}
					if err := d.Read(off, got); err != nil {
						return err
					}
					if !bytes.Equal(got, want) {
						return fmt.Errorf("worker %d, round %d: %x at %#x, not %x", w, i, got[:8], off, want[:8])
					}
				}
				return d.Fence()
			}()
		}()
	}
	for range workers {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
}

// testBatch compares pages read in a batch with pages read singly: fenced ones, ones written since,
// and one outside the device.
func testBatch(t *testing.T, d nvmap.Device) {
	const pages = 100
	ready(t, d, pages*nvmap.PageBytes)
	for p := range nvmap.PageID(pages) {
		if p == pages/2 {
			must(t, d.Fence())
		}
		must(t, d.Write(p.Off()+7, []byte{1, byte(p), 2}))
	}
	var reqs []nvmap.PageRead
	for i := range nvmap.PageID(2 * pages) {
		reqs = append(reqs, nvmap.PageRead{Page: (i * 37) % pages, Buf: make([]byte, nvmap.PageBytes)})
	}
	must(t, nvmap.ReadPages(d, reqs))
	want := make([]byte, nvmap.PageBytes)
	for _, r := range reqs {
		must(t, d.Read(r.Page.Off(), want))
		if !bytes.Equal(r.Buf, want) || r.Buf[8] != byte(r.Page) || r.Err != nil {
			t.Fatalf("page %d: %x, %v; alone %x", r.Page, r.Buf[:16], r.Err, want[:16])
		}
	}
	whole := make([]byte, nvmap.PageBytes)
	for what, bad := range map[string]nvmap.PageRead{
		"a page beyond the end":           {Page: nvmap.Off(d.Size()).Page(), Buf: whole},
		"a page whose offset is too much": {Page: 1 << 52, Buf: whole},
		"a buffer less than a page":       {Page: 1, Buf: whole[1:]},
	} {
		reqs := append(reqs[:3:3], bad)
		if err := nvmap.ReadPages(d, reqs); err == nil || reqs[3].Err == nil || reqs[0].Err != nil {
			t.Errorf("%s: %v, %v", what, err, reqs[3].Err)
		}
	}
}

// testWholeWords stores words of equal bytes next to each other while a reader looks for a mixed
// word.
func testWholeWords(t *testing.T, d nvmap.Device) {
	view := d.Mapping()
	if view == nil || raceEnabled {
		t.Skip("needs a mapping, and a reader that races with the writer on purpose")
	}
	const words = 37 // ends inside a line
	ready(t, d, nvmap.PageBytes)
	stop := make(chan struct{})
	mixed := make(chan uint64, 1)
	go func() {
		defer close(mixed)
		for {
			for w := range words {
				v := atomic.LoadUint64((*uint64)(unsafe.Pointer(&view[64+8*w])))
				if v != v&0xff*0x0101010101010101 {
					mixed <- v
					return
				}
			}
			select {
			case <-stop:
				return
			default:
			}
		}
	}()
	p := make([]byte, words*8)
	for i := range 2000 {
		for j := range p {
			p[j] = byte(i)
		}
		must(t, d.Write(64, p))
		if i%16 == 0 {
			must(t, d.Fence())
		}
	}
	close(stop)
	if v, ok := <-mixed; ok {
		t.Errorf("a reader saw the torn word %016x", v)
	}
}

func testDiscard(t *testing.T, d nvmap.Device) {
	must(t, d.Grow(8*nvmap.PageBytes))
	full := bytes.Repeat([]byte{7}, 8*nvmap.PageBytes)
	must(t, d.Write(0, full))
	must(t, d.Fence())
	must(t, d.Discard(nvmap.PageBytes+1, 3*nvmap.PageBytes))
	got := make([]byte, len(full))
	must(t, d.Read(0, got))
	for i, b := range got {
		inside := i > nvmap.PageBytes && i < 4*nvmap.PageBytes+1
		if b != 7 && (b != 0 || !inside) {
			t.Fatalf("byte %#x is %d after a discard next to it or over it", i, b)
		}
	}
	must(t, d.Allocate(nvmap.PageBytes+1, 3*nvmap.PageBytes))
	word := binary.LittleEndian.AppendUint64(nil, 0x0123456789abcdef)
	must(t, d.Write(2*nvmap.PageBytes, word))
	must(t, d.Fence())
	must(t, d.Read(2*nvmap.PageBytes, got[:8]))
	if !bytes.Equal(got[:8], word) {
		t.Error("a range allocated again takes writes")
	}
}

// testReadOnlyMapping stores through the readers' mapping, which must fault.
func testReadOnlyMapping(t *testing.T, d nvmap.Device) {
	if d.Mapping() == nil || d.Info().Protect == "none" {
		t.Skip("this device does not protect its mapping")
	}
	ready(t, d, nvmap.PageBytes)
	faulted := make(chan bool)
	go func() {
		debug.SetPanicOnFault(true)
		defer func() { faulted <- recover() != nil }()
		d.Mapping()[100] = 1
	}()
	if !<-faulted {
		t.Error("a stray store went through")
	}
	var got [1]byte
	must(t, d.Read(100, got[:]))
	if got[0] != 0 {
		t.Error("a stray store changed the device")
	}
}

func testClose(t *testing.T, d nvmap.Device) {
	must(t, d.Close())
	must(t, d.Close())
	for what, err := range map[string]error{
		"Write":    d.Write(0, []byte{1}),
		"Fence":    d.Fence(),
		"Read":     d.Read(0, make([]byte, 1)),
		"Grow":     d.Grow(1 << 20),
		"Discard":  d.Discard(0, nvmap.PageBytes),
		"Allocate": d.Allocate(0, nvmap.PageBytes),
	} {
		if !errors.Is(err, nvmap.ErrClosed) {
			t.Errorf("%s on a closed device: %v", what, err)
		}
	}
}
