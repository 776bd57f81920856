package nvmap

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unsafe"
)

// fakeSlot makes a directory like that of a PCI device in sysfs. It has a memory window of 64 KiB
// under two names, and a window of I/O ports.
func fakeSlot(t *testing.T, command byte) string {
	t.Helper()
	dir := t.TempDir()
	table := "0x000000000000c000 0x000000000000c0ff 0x0000000000040101\n" +
		"0x0000000000000000 0x0000000000000000 0x0000000000000000\n" +
		"0x00000000fc000000 0x00000000fc00ffff 0x000000000014220c\n"
	for name, content := range map[string][]byte{
		"resource":     []byte(table),
		"config":       {0xf4, 0x1a, 0x10, 0x11, command, 0, 0, 0},
		"resource0":    make([]byte, 256),
		"resource2":    make([]byte, 64<<10),
		"resource2_wc": make([]byte, 64<<10),
	} {
		mustDo(t, os.WriteFile(filepath.Join(dir, name), content, 0o600))
	}
	return dir
}

// openSlot opens a window as OpenDevice does for one in sysfs.
func openSlot(t *testing.T, path string, o OpenOptions) (Device, error) {
	t.Helper()
	noLock := o
	noLock.NoLock = true // newPCIe takes the lock
	f, _, err := openFile(path, siteFile, noLock)
	mustDo(t, err)
	m, err := moverNamed("")
	mustDo(t, err)
	d, err := newPCIe(&fileMap{f: f, path: path, why: "asked for", mover: m}, o)
	if err != nil {
		f.Close()
		return nil, err
	}
	t.Cleanup(func() { d.Close() })
	return d, nil
}

func TestPCIeRefuses(t *testing.T) {
	const memory = 1 << 1
	for _, c := range []struct {
		name    string
		command byte
		want    string
	}{
		{"resource0", memory, "I/O ports"},
		{"resource2", 0, "write 1 to"},
		{"resource2_wc", 0, "write 1 to"},
	} {
		path := filepath.Join(fakeSlot(t, c.command), c.name)
		if _, err := openSlot(t, path, OpenOptions{}); err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s with command %#x: %v, want it to say %q and where", c.name, c.command, err, c.want)
		}
	}
}

// TestPCIeLock checks that both names of a window are one device with one lock.
func TestPCIeLock(t *testing.T) {
	dir := fakeSlot(t, 0xff)
	d, err := openSlot(t, filepath.Join(dir, "resource2_wc"), OpenOptions{})
	mustDo(t, err)
	for _, name := range []string{"resource2", "resource2_wc"} {
		for _, ro := range []bool{false, true} {
			if _, err := openSlot(t, filepath.Join(dir, name), OpenOptions{ReadOnly: ro}); !errors.Is(err, ErrLocked) {
				t.Errorf("%s beside a writer, read-only %v: %v", name, ro, err)
			}
		}
	}
	mustDo(t, d.(interface{ Unlock() error }).Unlock())
	again, err := openSlot(t, filepath.Join(dir, "resource2"), OpenOptions{ReadOnly: true})
	mustDo(t, err)
	if !strings.Contains(again.Info().Note, "write combining") {
		t.Errorf("nothing is said of the slow name: %+v", again.Info())
	}
	if err := again.Write(0, []byte{1}); !errors.Is(err, ErrReadOnly) {
		t.Errorf("a write to what is read-only: %v", err)
	}
	got := make([]byte, 100)
	mustDo(t, again.Read(0, got))
}

// TestPCIeFenceReadsBack checks that a fence compares the last store with the device.
func TestPCIeFenceReadsBack(t *testing.T) {
	path := filepath.Join(fakeSlot(t, 0xff), "resource2")
	d, err := openSlot(t, path, OpenOptions{})
	mustDo(t, err)
	mustDo(t, d.Fence()) // nothing was stored
	p := bytes.Repeat([]byte("stored"), 50)
	mustDo(t, d.Write(1000, p))
	mustDo(t, d.Fence())
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	mustDo(t, err)
	defer f.Close()
	_, err = f.WriteAt([]byte{0xff}, 1299) // the last byte that was stored
	mustDo(t, err)
	var fault *FaultError
	if err := d.Fence(); !errors.As(err, &fault) || fault.Op != "fence" || fault.Off != 1296 {
		t.Errorf("a device that does not hold what was stored: %v", err)
	}
	mustDo(t, d.Write(1299, p[len(p)-1:]))
	mustDo(t, d.Fence())
	mustDo(t, d.Close())
	if err := d.Fence(); !errors.Is(err, ErrClosed) {
		t.Errorf("a fence on a closed device: %v", err)
	}
}

func TestEndOf(t *testing.T) {
	for _, c := range []struct {
		off Off
		p   string
		at  int64
		end string
	}{
		{0, "a", 0, "a"}, {8, "abcdefgh", 8, "abcdefgh"}, {8, "abcdefghi", 16, "i"}, {5, "abc", 5, "abc"},
		{5, "abcd", 8, "d"}, {63, "ab", 64, "b"}, {1, "abcdefghijkl", 8, "hijkl"},
	} {
		s := endOf(c.off, []byte(c.p))
		if got := string(s.word[:s.n]); s.off != c.at || got != c.end {
			t.Errorf("%q at %d ends in %q at %d, want %q at %d", c.p, c.off, got, s.off, c.end, c.at)
		}
	}
}

// TestPCIeLoads checks that reads load whole lines of the window, and touch nothing beyond its end.
func TestPCIeLoads(t *testing.T) {
	const size = 4 * lineBytes
	window := cornered(t, size)
	r := rand.New(rand.NewPCG(3, 4))
	for i := range window {
		window[i] = byte(r.Uint32())
	}
	d := &pcieDevice{fileMap: &fileMap{alias: &region{base: unsafe.Pointer(unsafe.SliceData(window)), bytes: size}}}
	for off := range size {
		for n := range size - off + 1 {
			p := make([]byte, n+1)[1:] // at an odd address
			d.load(int64(off), p)
			if !bytes.Equal(p, window[off:off+n]) {
				t.Fatalf("%d bytes at %d went wrong", n, off)
			}
		}
	}
}

func TestLoadLines(t *testing.T) {
	src := make([]byte, 9*lineBytes)
	src = src[-uintptr(unsafe.Pointer(unsafe.SliceData(src)))&(lineBytes-1):][:8*lineBytes]
	for i := range src {
		src[i] = byte(i * 7)
	}
	check := func(t *testing.T) {
		for lines := range 9 {
			for pad := range 3 {
				dst := bytes.Repeat([]byte{0xee}, 10*lineBytes)
				n := lines * lineBytes
				loadLines(unsafe.Pointer(&dst[pad]), unsafe.Pointer(unsafe.SliceData(src)), uintptr(n))
				if !bytes.Equal(dst[pad:pad+n], src[:n]) || dst[pad+n] != 0xee || pad > 0 && dst[pad-1] != 0xee {
					t.Errorf("%d lines to offset %d went wrong", lines, pad)
				}
			}
		}
	}
	t.Run(fmt.Sprint(wideLoads), check)
	defer lesserCPU()()
	t.Run("lesser CPU", check)
}
