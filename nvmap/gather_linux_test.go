package nvmap_test

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"nvkv/internal/effort"
	"nvkv/nvmap"
)

const hugePage = 2 << 20

// gathers reports whether the kernel can gather pages of files in dir.
func gathers(t *testing.T, dir string) bool {
	f, err := os.CreateTemp(dir, "probe")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(2 * hugePage); err != nil {
		t.Fatal(err)
	}
	mem, err := unix.Mmap(int(f.Fd()), 0, 2*hugePage, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_POPULATE)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Munmap(mem)
	return unix.Madvise(mem, unix.MADV_COLLAPSE) == nil
}

// hugeBytesOf returns the number of mapped bytes of a file that lie in huge pages.
func hugeBytesOf(t *testing.T, path string) (n int64) {
	f, err := os.Open("/proc/self/smaps")
	if err != nil {
		effort.NotTested(t, "%v", err)
	}
	defer f.Close()
	inside := false
	for s := bufio.NewScanner(f); s.Scan(); {
		var from, to, kib int64
		if k, _ := fmt.Sscanf(s.Text(), "%x-%x", &from, &to); k == 2 {
			inside = strings.HasSuffix(s.Text(), path)
		}
		if k, _ := fmt.Sscanf(s.Text(), "ShmemPmdMapped: %d kB", &kib); k == 1 && inside {
			n += kib << 10
		}
	}
	return n
}

// TestGrowthInHugePages grows a file on tmpfs in steps, and writes bytes before each step.
func TestGrowthInHugePages(t *testing.T) {
	dir := shmDir(t)
	if !gathers(t, dir) {
		effort.NotTested(t, "this kernel does not gather pages of tmpfs")
	}
	path := filepath.Join(dir, "store")
	d := open(t, path, "shm", nvmap.OpenOptions{Create: true, MaxBytes: 64 << 20})
	var size int64
	want := []byte{}
	for _, to := range []int64{300 << 10, 1 << 20, 3 << 20, 7<<20 + nvmap.PageBytes, 16 << 20} {
		if err := d.Grow(to); err != nil {
			t.Fatal(err)
		}
		fresh := bytes.Repeat([]byte{byte(len(want)>>12 | 1)}, int(to-size))
		if got := d.Mapping()[size:to]; !bytes.Equal(got, make([]byte, to-size)) {
			t.Fatalf("bytes [%d, %d) are not zero after growth", size, to)
		}
		if err := d.Write(nvmap.Off(size), fresh); err != nil {
			t.Fatal(err)
		}
		want, size = append(want, fresh...), to
		if !bytes.Equal(d.Mapping()[:size], want) {
			t.Fatalf("growth to %d bytes changed what was there", to)
		}
		var st unix.Stat_t
		if err := unix.Stat(path, &st); err != nil {
			t.Fatal(err)
		}
		if st.Size != size || st.Blocks*512 < size || st.Blocks*512 > size+nvmap.PageBytes {
			t.Errorf("a device of %d bytes is a file of %d, %d of them in blocks", size, st.Size, st.Blocks*512)
		}
	}
	if got := hugeBytesOf(t, path); got != 2*size {
		t.Errorf("%d bytes of two mappings of %d lie in huge pages", got, size)
	}
	if err := d.Discard(3*hugePage, 64<<10); err != nil {
		t.Fatal(err)
	}
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		t.Fatal(err)
	}
	if st.Blocks*512 != size-64<<10 {
		t.Errorf("after 64 KiB were discarded %d of %d bytes have blocks", st.Blocks*512, size)
	}
	clear(want[3*hugePage : 3*hugePage+64<<10])
	if !bytes.Equal(d.Mapping()[:size], want) {
		t.Error("a discard inside a huge page changed what lies beside it")
	}
}
