package nvmap_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"nvkv/internal/filegate"
	"nvkv/nvmap"
	"nvkv/nvmap/nvmaptest"
)

// TestDeviceFromEnvironment runs the conformance suite on a device that the caller names. Then it
// opens the device again and checks that fenced bytes are still there. It reads:
//
//	NVMAP_TEST_DEVICE  the device, whose contents may all be lost: a directory for
//	                   fresh files, or a character device, block device or PCI
//	                   resource, which is used in place
//	NVMAP_TEST_KIND    the kind that must be detected; if the value ends in "!",
//	                   the kind that is asked for
//	NVMAP_TEST_MOVER   the mover, for kinds that have several
//
// It needs only the test binary (CGO_ENABLED=0 go test -c ./nvmap), so it can run on the machine
// with the hardware, or in a virtual machine:
//
//	NVMAP_TEST_DEVICE=/mnt/pmem NVMAP_TEST_KIND=dax ./nvmap.test -test.v -test.run TestDeviceFromEnvironment
//	NVMAP_TEST_DEVICE=/dev/dax0.0 NVMAP_TEST_KIND=devdax ...
//	NVMAP_TEST_DEVICE=/sys/bus/pci/devices/0000:00:04.0/resource2_wc NVMAP_TEST_KIND=pcie ...
//	NVMAP_TEST_DEVICE=/dev/vda NVMAP_TEST_KIND=block ...
func TestDeviceFromEnvironment(t *testing.T) {
	e := environment(t)
	t.Logf("%s: %+v", e.path, e.info(t))
	t.Run("Suite", func(t *testing.T) { nvmaptest.TestDevice(t, e.open) })
	t.Run("OpenedAgain", e.testOpenedAgain)
	t.Run("MadeByOthers", e.testMadeByOthers)
}

// testMadeByOthers opens a file whose creator may have died before its size and name were durable.
// After the first fence they must be. It skips volatile memory, which has nothing to lose.
func (e *testEnvironment) testMadeByOthers(t *testing.T) {
	if !e.isDir {
		t.Skip("no file")
	}
	dir, err := os.MkdirTemp(e.path, "nvmap-test-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "store")
	if err := os.WriteFile(path, make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	synced := map[filegate.Op]bool{}
	var mu sync.Mutex
	filegate.Set(path, func(c filegate.Call) (int64, error) {
		mu.Lock()
		defer mu.Unlock()
		synced[c.Op] = true
		return c.N, nil
	})
	defer filegate.Set(path, nil)
	d := e.openAt(t, path, e.o)
	write(t, d, 100, "written")
	fence(t, d)
	if mu.Lock(); d.Info().Kind != "shm" && (!synced[filegate.Sync] || !synced[filegate.SyncDir]) {
		t.Errorf("behind a fence size and name of the file may still be lost: %v", synced)
	}
	mu.Unlock()
}

// testEnvironment is the device that the environment names.
type testEnvironment struct {
	path  string
	isDir bool
	kind  string
	o     nvmap.OpenOptions
}

func environment(t *testing.T) *testEnvironment {
	t.Helper()
	path := os.Getenv("NVMAP_TEST_DEVICE")
	if path == "" {
		t.Skip("NVMAP_TEST_DEVICE names no device to test on")
	}
	fi, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if fi.Mode().IsRegular() && !strings.HasPrefix(path, "/sys/") {
		t.Fatalf("%s is a file that somebody may want to keep: name its directory", path)
	}
	kind, asked := strings.CutSuffix(os.Getenv("NVMAP_TEST_KIND"), "!")
	e := &testEnvironment{path: path, isDir: fi.IsDir(), kind: kind}
	e.o = nvmap.OpenOptions{MaxBytes: 64 << 20, Mover: os.Getenv("NVMAP_TEST_MOVER")}
	if asked {
		e.o.Kind = kind
	}
	return e
}

// open opens the device, or one on a fresh file in the directory.
func (e *testEnvironment) open(t *testing.T) nvmap.Device {
	t.Helper()
	o, path := e.o, e.path
	if e.isDir {
		dir, err := os.MkdirTemp(e.path, "nvmap-test-")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { os.RemoveAll(dir) })
		path, o.Create = filepath.Join(dir, "store"), true
	}
	return e.openAt(t, path, o)
}

func (e *testEnvironment) openAt(t *testing.T, path string, o nvmap.OpenOptions) nvmap.Device {
	t.Helper()
	d, err := nvmap.OpenDevice(path, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	if got := d.Info().Kind; e.kind != "" && got != e.kind {
		t.Fatalf("%s opened as %q, not as %q", path, got, e.kind)
	}
	return d
}

func (e *testEnvironment) info(t *testing.T) nvmap.Info {
	d := e.open(t)
	defer d.Close()
	return d.Info()
}

// testOpenedAgain writes, fences, closes and opens the device again, once for writing and once
// read-only.
func (e *testEnvironment) testOpenedAgain(t *testing.T) {
	d := e.open(t)
	path := d.Info().Path
	want := bytes.Repeat([]byte("kept through closing "), 1000)
	if err := d.Grow(1 << 20); err != nil {
		t.Fatal(err)
	}
	for off := nvmap.Off(0); off < 1<<20-nvmap.Off(len(want)); off += 100_003 {
		write(t, d, off, string(want))
	}
	fence(t, d)
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	o := e.o
	for _, o.ReadOnly = range []bool{false, true} {
		d := e.openAt(t, path, o)
		for off := nvmap.Off(0); off < 1<<20-nvmap.Off(len(want)); off += 100_003 {
			got := make([]byte, len(want))
			if err := d.Read(off, got); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, want) {
				t.Errorf("read-only %v: other bytes at %#x", o.ReadOnly, off)
			}
		}
		if o.ReadOnly && d.Write(0, want) == nil {
			t.Error("a device opened read-only took a write")
		}
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
