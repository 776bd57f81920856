package nvmap

import (
	"bytes"
	"errors"
	"path/filepath"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"nvkv/internal/effort"
)

// counting returns a copy of m that logs its calls: s for a store, d for a drain.
func counting(m mover) (mover, *bytes.Buffer) {
	var calls bytes.Buffer
	counted := m
	counted.store = func(dst, src unsafe.Pointer, n uintptr, k pkey) {
		calls.WriteByte('s')
		m.store(dst, src, n, k)
	}
	counted.drain = func() {
		calls.WriteByte('d')
		m.drain()
	}
	return counted, &calls
}

// TestFencesDrain checks that on devices that are stored into, each write is a store and each fence
// a drain. A window of a PCI device drains at each write already, because its fence may run on
// another CPU. No crash image shows a missing drain, because memory here loses nothing, so the test
// counts the calls.
func TestFencesDrain(t *testing.T) {
	shm := openShm(t, ProtectMapping, 1<<20)
	window, err := openSlot(t, filepath.Join(fakeSlot(t, 0xff), "resource2"), OpenOptions{})
	mustDo(t, err)
	for _, test := range []struct {
		dev  Device
		m    *mover
		want string
	}{
		{shm, &shm.mover, "ssd"}, // dax and devdax differ only in their mappings
		{window, &window.(*pcieDevice).mover, "sdsdd"},
	} {
		counted, calls := counting(*test.m)
		*test.m = counted
		mustDo(t, errors.Join(test.dev.Write(100, []byte("one")), test.dev.Write(5000, []byte("two")), test.dev.Fence()))
		if calls.String() != test.want {
			t.Errorf("%s: two writes and a fence are %q, want %q", test.dev.Info().Kind, calls, test.want)
		}
	}
}

// TestFileFenceReachesTheDisk asks the kernel which pages of the file are dirty. There must be none
// after a fence.
func TestFileFenceReachesTheDisk(t *testing.T) {
	const size = 1 << 20
	dev, err := OpenDevice(filepath.Join(t.TempDir(), "f"), OpenOptions{Kind: "file", Create: true})
	mustDo(t, err)
	defer dev.Close()
	mustDo(t, dev.Grow(size))
	d := dev.(*fileDevice)
	dirty := func() uint64 {
		var st unix.Cachestat_t
		err := unix.Cachestat(uint(d.f.Fd()), &unix.CachestatRange{Len: size}, &st, 0)
		if err != nil {
			effort.NotTested(t, "the kernel does not tell what is dirty: %v", err)
		}
		return st.Dirty + st.Writeback
	}
	mustDo(t, dev.Fence())
	if dirty() > 0 {
		effort.NotTested(t, "the pages of this file system are always dirty")
	}
	was := false
	for i := range 64 {
		mustDo(t, errors.Join(dev.Write(Off(i*PageBytes), []byte{byte(i)}), d.Show()))
		was = was || dirty() > 0 // unless the kernel was quicker
		mustDo(t, dev.Fence())
		if n := dirty(); n > 0 {
			t.Fatalf("%d pages are dirty behind fence %d", n, i)
		}
	}
	if !was {
		t.Error("no page was ever dirty: the test does not test anything")
	}
}
