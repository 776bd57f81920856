package nvmap

import (
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// sharedMemory returns populated bytes of a file on tmpfs.
func sharedMemory(b *testing.B, n int) []byte {
	b.Helper()
	f, err := os.CreateTemp("/dev/shm", "nvmap-test-")
	if err != nil {
		b.Skip(err)
	}
	defer f.Close()
	if err := os.Remove(f.Name()); err != nil {
		b.Fatal(err)
	}
	if err := f.Truncate(int64(n)); err != nil {
		b.Fatal(err)
	}
	mem, err := unix.Mmap(int(f.Fd()), 0, n, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_POPULATE)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { unix.Munmap(mem) })
	return mem
}
