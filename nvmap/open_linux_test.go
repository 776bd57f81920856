package nvmap_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"nvkv/internal/effort"
	"nvkv/nvmap"
	"nvkv/nvmap/nvmaptest"
)

// helper is the variable that tells a copy of this test binary what to do instead of testing.
const helper = "NVMAP_TEST_HELPER"

// helperFirst does the work of a copy of this test binary that has other marks, if it has one.
var helperFirst = func() {}

func TestMain(m *testing.M) {
	helperFirst()
	switch os.Getenv(helper) {
	case "":
		os.Exit(m.Run())
	case "narrow":
		narrowHelper()
	}
}

func TestOpenRefuses(t *testing.T) {
	dir := t.TempDir()
	pipe := filepath.Join(dir, "pipe")
	if err := unix.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(dir, "socket")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	regular, resource := filepath.Join(dir, "regular"), filepath.Join(dir, "resource2_wc") // not in sysfs
	for _, path := range []string{regular, resource} {
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	loop := filepath.Join(dir, "loop")
	if err := os.Symlink(loop, loop); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		path string
		o    nvmap.OpenOptions
		want string
		is   error
	}{
		{path: dir, want: "directory"},
		{path: pipe, want: "named pipe"},
		{path: pipe, o: nvmap.OpenOptions{ReadOnly: true}, want: "named pipe"},
		{path: socket, want: "socket"},
		{path: "/dev/null", want: "character device"},
		{path: loop, want: "loop"},
		{path: "", want: "no path"},
		{path: filepath.Join(dir, "absent"), want: "absent", is: fs.ErrNotExist},
		{path: filepath.Join(dir, "absent"), o: nvmap.OpenOptions{ReadOnly: true, Create: true}, want: "absent", is: fs.ErrNotExist},
		{path: filepath.Join(dir, "no", "such"), o: nvmap.OpenOptions{Create: true}, want: "such", is: fs.ErrNotExist},
		{path: filepath.Join(dir, "x"), o: nvmap.OpenOptions{Kind: "dax", Create: true}, want: `"dax"`, is: errors.ErrUnsupported},
		{path: dir, o: nvmap.OpenOptions{Kind: "block"}, want: "directory"},
		{path: regular, o: nvmap.OpenOptions{Kind: "devdax"}, want: "a character device, and this is a regular file"},
		{path: regular, o: nvmap.OpenOptions{Kind: "pcie"}, want: "a resource of a PCI device, and this is a regular file"},
		{path: resource, o: nvmap.OpenOptions{Kind: "pcie"}, want: "a resource of a PCI device, and this is a regular file"},
		{path: "/dev/null", o: nvmap.OpenOptions{Kind: "file"}, want: "a regular file, and this is a character device"},
		{path: "/dev/null", o: nvmap.OpenOptions{Kind: "devdax"}, want: "not one of the DAX subsystem"},
		{path: "/sys/kernel/uevent_seqnum", o: nvmap.OpenOptions{Kind: "pcie", ReadOnly: true}, want: "a resource of a PCI device, and this is a regular file"},
		{path: filepath.Join(dir, "x"), o: nvmap.OpenOptions{Kind: "tape", Create: true}, want: `"tape"`},
		{path: filepath.Join(dir, "x"), o: nvmap.OpenOptions{Kind: "shm", Mover: "tape", Create: true}, want: `"tape"`},
	} {
		d, err := nvmap.OpenDevice(c.path, c.o)
		if err == nil {
			d.Close()
			t.Errorf("%q with %+v opened", c.path, c.o)
			continue
		}
		if !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), c.path) {
			t.Errorf("%q: %v; want it to say %q and where", c.path, err, c.want)
		}
		if c.is != nil && !errors.Is(err, c.is) {
			t.Errorf("%q: %v is not %v", c.path, err, c.is)
		}
	}
	if fi, err := os.Stat(filepath.Join(dir, "x")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("what was refused left a file behind: %v, %v", fi, err)
	}
	if _, err := nvmap.OpenDevice(regular, nvmap.OpenOptions{Kind: "dax", Create: true}); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("a file that was there, as dax: %v", err)
	}
	if _, err := os.Stat(regular); err != nil {
		t.Errorf("it was there before it was refused: %v", err)
	}
}

// TestShmNeedsMemory checks that a file on a disk is not opened as memory: its fences would not
// reach the disk.
func TestShmNeedsMemory(t *testing.T) {
	var st unix.Statfs_t
	dir := t.TempDir()
	if err := unix.Statfs(dir, &st); err != nil {
		t.Fatal(err)
	}
	if st.Type == unix.TMPFS_MAGIC {
		effort.NotTested(t, "the temporary directory is in memory")
	}
	path := filepath.Join(dir, "x")
	_, err := nvmap.OpenDevice(path, nvmap.OpenOptions{Kind: "shm", Create: true, MaxBytes: 1 << 20})
	if !errors.Is(err, errors.ErrUnsupported) || !strings.Contains(err.Error(), `"shm" needs a file system in memory`) {
		t.Errorf("shm on a disk: %v", err)
	}
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("it left a file behind: %v", err)
	}
}

func TestLock(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store")
	d := open(t, path, "file", nvmap.OpenOptions{Kind: "file", Create: true})
	for _, o := range []nvmap.OpenOptions{{}, {ReadOnly: true}} {
		_, err := nvmap.OpenDevice(path, o)
		if !errors.Is(err, nvmap.ErrLocked) || !strings.Contains(err.Error(), path) {
			t.Errorf("%+v beside a writer: %v", o, err)
		}
		if want := fmt.Sprintf("process %d", os.Getpid()); err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%v; want it to name %s", err, want)
		}
	}
	open(t, path, "file", nvmap.OpenOptions{Kind: "file", NoLock: true}).Close()
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	open(t, path, "file", nvmap.OpenOptions{Kind: "file", ReadOnly: true})
	open(t, path, "file", nvmap.OpenOptions{Kind: "file", ReadOnly: true})
	if _, err := nvmap.OpenDevice(path, nvmap.OpenOptions{}); !errors.Is(err, nvmap.ErrLocked) {
		t.Errorf("a writer beside readers: %v", err)
	}
}

func TestReadOnly(t *testing.T) {
	for kind, dir := range map[string]string{"file": t.TempDir(), "block": t.TempDir(), "shm": shmDir(t)} {
		path := filepath.Join(dir, "store")
		if err := os.WriteFile(path, []byte("something foreign"), 0o400); err != nil {
			t.Fatal(err)
		}
		d, err := nvmap.OpenDevice(path, nvmap.OpenOptions{ReadOnly: true, Kind: kind})
		if err != nil {
			t.Fatal(err)
		}
		for what, err := range map[string]error{
			"Write":    d.Write(0, []byte("x")),
			"Grow":     d.Grow(1 << 20),
			"Discard":  d.Discard(0, 4096),
			"Allocate": d.Allocate(0, 4096),
		} {
			if !errors.Is(err, nvmap.ErrReadOnly) || !strings.Contains(err.Error(), path) {
				t.Errorf("%s: %v", what, err)
			}
		}
		if err := d.Fence(); err != nil {
			t.Errorf("nothing was written, so there is nothing to fence: %v", err)
		}
		p := make([]byte, 20)
		if err := d.Read(0, p); err != nil || string(p) != "something foreign\x00\x00\x00" {
			t.Errorf("read %q, %v", p, err)
		}
		if d.Mapping() != nil && !bytes.Equal(d.Mapping()[:20], p) {
			t.Errorf("mapped %q", d.Mapping()[:20])
		}
		nvmaptest.TestReadOnly(t, d)
	}
}

// TestOpenChangesNothing checks that an existing file keeps its size and bytes until it is grown.
func TestOpenChangesNothing(t *testing.T) {
	path := filepath.Join(shmDir(t), "foreign")
	const text = "not a store, and not of a whole page"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	d := open(t, path, "shm", nvmap.OpenOptions{Create: true})
	if d.Size() != nvmap.PageBytes {
		t.Errorf("size %d: the page that holds the end is readable", d.Size())
	}
	if err := d.Write(nvmap.Off(len(text)), []byte("x")); err == nil {
		t.Error("a write beyond the end of the file would be lost")
	}
	d.Close()
	if got, err := os.ReadFile(path); err != nil || string(got) != text {
		t.Errorf("opening changed it to %q, %v", got, err)
	}
}

func TestStoreOutlivesClose(t *testing.T) {
	for kind, dir := range map[string]string{"file": t.TempDir(), "block": t.TempDir(), "shm": shmDir(t)} {
		path := filepath.Join(dir, "store")
		d := open(t, path, kind, nvmap.OpenOptions{Kind: kind, Create: true})
		if err := d.Grow(3 * nvmap.PageBytes); err != nil {
			t.Fatal(err)
		}
		size := d.Size()
		write(t, d, 5000, "still here")
		fence(t, d)
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
		d = open(t, path, kind, nvmap.OpenOptions{Kind: kind})
		if got := read(t, d, 5000, 10); d.Size() != size || got != "still here" {
			t.Errorf("%s: %d bytes, %q", kind, d.Size(), got)
		}
	}
}

// TestTruncatedBehindUs checks that reading or writing a file that another process truncated
// returns an error, without a signal.
func TestTruncatedBehindUs(t *testing.T) {
	for kind, dir := range map[string]string{"file": t.TempDir(), "block": t.TempDir(), "shm": shmDir(t)} {
		t.Run(kind, func(t *testing.T) {
			path := filepath.Join(dir, "store")
			d := open(t, path, kind, nvmap.OpenOptions{Kind: kind, Create: true})
			if err := d.Grow(16 * nvmap.PageBytes); err != nil {
				t.Fatal(err)
			}
			m, err := nvmap.NewMap(d, nil)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.Truncate(path, 4*nvmap.PageBytes); err != nil {
				t.Fatal(err)
			}
			const gone = 10 * nvmap.PageBytes
			wantFault := func(what string, err error) {
				t.Helper()
				var fault *nvmap.FaultError
				if !errors.As(err, &fault) || fault.Off < gone || fault.Off >= gone+nvmap.PageBytes {
					t.Errorf("%s: %v", what, err)
				}
			}
			wantFault("Read", d.Read(gone, make([]byte, 8)))
			_, err = m.Frame(gone / nvmap.PageBytes)
			wantFault("Frame", err)
			if kind == "shm" { // a write extends a file again
				wantFault("Write", d.Write(gone+8, make([]byte, 8)))
			}
			if d.Mapping() != nil {
				wantFault("guarded view", readView(m, gone, 8))
			}
		})
	}
}

// readView reads a view as a store does that turns faults into errors.
func readView(m *nvmap.Map, off nvmap.Off, n int) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil {
			err = m.Faulted(r, "read")
		}
	}()
	_ = bytes.Clone(m.View(off, n))
	return nil
}

func TestFaultedPassesOtherPanics(t *testing.T) {
	m := newMap(t, nvmap.NewMem(1<<20), nvmap.PageBytes)
	defer func() {
		if r := recover(); r != "mine" {
			t.Errorf("recovered %v", r)
		}
	}()
	_ = m.Faulted("mine", "read")
}

func TestMoversByName(t *testing.T) {
	for _, mover := range []string{"nt", "store+clwb", "copy"} {
		path := filepath.Join(shmDir(t), "store")
		d, err := nvmap.OpenDevice(path, nvmap.OpenOptions{Create: true, Mover: mover})
		if err != nil {
			t.Logf("%s: %v", mover, err)
			continue
		}
		if got := d.Info().Mover; got != mover {
			t.Errorf("asked for %q, got %q", mover, got)
		}
		if err := d.Grow(1); err != nil {
			t.Fatal(err)
		}
		write(t, d, 3, "moved")
		fence(t, d)
		if got := string(d.Mapping()[3:8]); got != "moved" {
			t.Errorf("%s: %q", mover, got)
		}
		d.Close()
	}
}

// mount mounts a file system until the test ends.
func mount(t *testing.T, fs, options string) string {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount(fs, dir, fs, 0, options); err != nil {
		effort.NotTested(t, "mounting %s: %v", fs, err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// TestFullDisk checks that a full disk is an error of Grow, and never a fault of a later access.
func TestFullDisk(t *testing.T) {
	for _, kind := range []string{"shm", "file", "block"} {
		t.Run(kind, func(t *testing.T) {
			dir := mount(t, "tmpfs", "size=1m")
			d := open(t, filepath.Join(dir, "store"), kind, nvmap.OpenOptions{Kind: kind, Create: true})
			if err := d.Grow(512 << 10); err != nil {
				t.Fatal(err)
			}
			fill := bytes.Repeat([]byte{1}, 512<<10)
			write(t, d, 0, string(fill))
			fence(t, d)
			for range 2 {
				err := d.Grow(2 << 20)
				if !errors.Is(err, nvmap.ErrFull) || !errors.Is(err, unix.ENOSPC) {
					t.Fatalf("growing beyond the disk: %v", err)
				}
			}
			if d.Size() != 512<<10 {
				t.Errorf("size %d after growth that failed", d.Size())
			}
			got := make([]byte, len(fill))
			if err := d.Read(0, got); err != nil || !bytes.Equal(got, fill) {
				t.Errorf("what was there stays: %v", err)
			}
			// The failed attempt must have freed its blocks.
			if err := d.Grow(900 << 10); err != nil {
				t.Errorf("what the disk has left: %v", err)
			}
			write(t, d, 800<<10, "fits")
			fence(t, d)
			if read(t, d, 800<<10, 4) != "fits" {
				t.Error("new bytes are there")
			}
			if kind == "shm" {
				testFullHole(t, d, dir)
			}
		})
	}
}

// testFullHole fills the disk with the blocks of a hole. Allocate must then fail.
func testFullHole(t *testing.T, d nvmap.Device, dir string) {
	if err := d.Discard(0, 512<<10); err != nil {
		t.Fatal(err)
	}
	hog := filepath.Join(dir, "hog")
	for n := 0; ; n += 4096 {
		f, err := os.OpenFile(hog, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		_, err = f.Write(make([]byte, 4096))
		f.Close()
		if errors.Is(err, unix.ENOSPC) {
			break
		}
		if err != nil || n > 2<<20 {
			t.Fatalf("filling the disk: %v after %d bytes", err, n)
		}
	}
	if err := d.Allocate(0, 512<<10); !errors.Is(err, nvmap.ErrFull) {
		t.Errorf("allocating on a full disk: %v", err)
	}
	var fault *nvmap.FaultError
	if err := d.Write(4096, []byte("x")); !errors.As(err, &fault) || fault.Off != 4096 {
		t.Errorf("writing into the hole: %v", err)
	}
	if err := os.Remove(hog); err != nil {
		t.Fatal(err)
	}
	if err := d.Allocate(0, 512<<10); err != nil {
		t.Errorf("with room again: %v", err)
	}
	write(t, d, 4096, "x")
}

// TestNarrowAddressSpace checks that the bound is the address space that the system grants, if that
// is small.
func TestNarrowAddressSpace(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector needs the address space for itself")
	}
	path := filepath.Join(shmDir(t), "store")
	cmd := exec.Command(os.Args[0], path)
	cmd.Env = append(os.Environ(), helper+"=narrow")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	t.Logf("%s", out)
}

// narrowHelper opens a device and a map in an address space of 16 GiB.
func narrowHelper() {
	check := func(err error) {
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
	}
	limit := unix.Rlimit{Cur: 16 << 30, Max: 16 << 30}
	check(unix.Setrlimit(unix.RLIMIT_AS, &limit))
	d, err := nvmap.OpenDevice(os.Args[1], nvmap.OpenOptions{Create: true})
	check(err)
	m, err := nvmap.NewMap(d, nil)
	check(err)
	check(m.Grow(1 << 20))
	check(m.Write(1<<20-8, []byte("the end!")))
	check(m.Fence())
	if got := string(m.View(1<<20-8, 8)); got != "the end!" {
		check(fmt.Errorf("read %q", got))
	}
	if most := m.Stats().MaxBytes; most >= 16<<30 || most < 1<<30 {
		check(fmt.Errorf("a bound of %d bytes in 16 GiB of address space", most))
	}
	if err := m.Grow(12 << 30); !errors.Is(err, nvmap.ErrFull) {
		check(fmt.Errorf("growing beyond the address space: %v", err))
	}
	fmt.Printf("granted: device %d bytes, map %d bytes\n", d.Info().MaxBytes, m.Stats().MaxBytes)
	check(m.Close())
}

// BenchmarkWriteFence measures a durable write through a map, which is the device cost of a commit.
func BenchmarkWriteFence(b *testing.B) {
	for kind, dir := range map[string]string{"shm": shmDir(b), "file": b.TempDir()} {
		d := open(b, filepath.Join(dir, "store"), kind, nvmap.OpenOptions{Kind: kind, Create: true})
		const span = 256 << 20
		m := newMap(b, d, span)
		for _, n := range []int{64, 128, 150, 152, 256, 1024, 4096} {
			b.Run(fmt.Sprintf("%s/%d", kind, n), func(b *testing.B) {
				b.SetBytes(int64(n))
				p := make([]byte, n)
				off, step := 0, (n+7)&^7
				for b.Loop() {
					if off += step; off > span-n {
						off = 0
					}
					if err := m.Write(nvmap.Off(off), p); err != nil {
						b.Fatal(err)
					}
					if err := m.Fence(); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
		m.Close()
	}
}

// TestWriteFromFailingView checks that a write whose source is a view of the same device, and
// faults, returns an error.
func TestWriteFromFailingView(t *testing.T) {
	path := filepath.Join(shmDir(t), "store")
	d := open(t, path, "shm", nvmap.OpenOptions{Create: true})
	if err := d.Grow(16 * nvmap.PageBytes); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, 4*nvmap.PageBytes); err != nil {
		t.Fatal(err)
	}
	const gone = 10 * nvmap.PageBytes
	var fault *nvmap.FaultError
	err := d.Write(0, d.Mapping()[gone:gone+100])
	if !errors.As(err, &fault) || fault.Op != "read" || fault.Off < gone || fault.Off >= gone+100 {
		t.Errorf("copying what is gone: %v", err)
	}
}

func TestMaxBytes(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store")
	o := nvmap.OpenOptions{Kind: "file", Create: true, MaxBytes: 3 << 20}
	d := open(t, path, "file", o)
	if got := d.Info().MaxBytes; got != 3<<20 {
		t.Errorf("asked for 3 MiB and got %d bytes", got)
	}
	if err := d.Grow(3<<20 + 1); !errors.Is(err, nvmap.ErrFull) {
		t.Errorf("a byte more: %v", err)
	}
	if err := d.Grow(3 << 20); err != nil {
		t.Error(err)
	}
	d.Close()
	o.MaxBytes = 1 << 20
	d = open(t, path, "file", o)
	if got := d.Info().MaxBytes; got != 3<<20 || d.Size() != 3<<20 {
		t.Errorf("a bound below the file's size: %d bytes of at most %d", d.Size(), got)
	}
}
