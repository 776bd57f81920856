package nvmap

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"nvkv/internal/effort"
	"nvkv/internal/filegate"
)

// The simulator stands above Device.Write and Device.Fence, so it cannot detect an omission inside
// a file device. These tests disable each place from which such a device writes or syncs its file,
// one at a time. A model of a disk with a cache must then object. After a fence, the file must hold
// the written bytes, and the disk must have been told to keep them. After growth and after
// truncation the same holds for the size, and after the first of any of these for the name.

// disk models a file and the disk beneath.
type disk struct {
	path string

	mu      sync.Mutex
	lost    string // the disabled place
	places  map[string]int
	unsaved bool // written since the last sync
	resized bool // resized since the last sync
	unnamed bool // its directory entry may be lost
}

// ask is the gate of the file.
func (d *disk) ask(c filegate.Call) (int64, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if c.Op == filegate.Write || c.Op == filegate.Sync || c.Op == filegate.SyncDir {
		place := string(c.Op) + ": " + callerOf()
		d.places[place]++
		if place == d.lost {
			return 0, filegate.ErrLost
		}
	}
	switch c.Op {
	case filegate.Write:
		d.unsaved = true
	case filegate.Resize, filegate.Allocate:
		d.resized = true
	case filegate.Sync:
		d.unsaved, d.resized = false, false
	case filegate.SyncDir:
		d.unnamed = false
	}
	return c.N, nil
}

// callerOf returns the place from which a device makes the current call: the call path from the
// method of the device.
func callerOf() string {
	var pcs [32]uintptr
	frames := runtime.CallersFrames(pcs[:runtime.Callers(2, pcs[:])])
	var way []string
	for {
		f, more := frames.Next()
		base := filepath.Base(f.File)
		name, ok := strings.CutPrefix(f.Function, "nvkv/nvmap.")
		if ok && !strings.HasSuffix(base, "_test.go") {
			way = append(way, fmt.Sprintf("%s (%s:%d)", name, base, f.Line))
		}
		if !more {
			slices.Reverse(way)
			return strings.Join(way, " > ")
		}
	}
}

// check returns an error if a crash now would lose bytes that a device has promised to keep.
func (d *disk) check(after string, want []byte) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	got, err := os.ReadFile(d.path)
	switch {
	case err != nil:
		return err
	case d.unsaved:
		return fmt.Errorf("behind %s the disk may still lose what was written", after)
	case d.resized:
		return fmt.Errorf("behind %s the disk may still lose the size", after)
	case d.unnamed:
		return fmt.Errorf("behind %s the file's name may still be lost", after)
	case !bytes.Equal(got, want):
		return fmt.Errorf("behind %s the file does not hold what was written", after)
	}
	return nil
}

// run uses a device of a kind on new files in dir, with one place disabled.
func (d *disk) run(dir, kind string) error {
	for _, made := range []string{"by the device", "by a process that died", "by a process that died, to be grown to its size"} {
		d.path = filepath.Join(dir, made)
		_ = os.Remove(d.path)
		d.unsaved, d.resized, d.unnamed = false, false, true
		size := int64(0)
		if made != "by the device" {
			size, d.resized = 1<<20, true
			if err := os.WriteFile(d.path, make([]byte, size), 0o600); err != nil {
				return err
			}
		}
		if err := d.use(kind, size, strings.HasSuffix(made, "grown to its size")); err != nil {
			return fmt.Errorf("a file made %s: %w", made, err)
		}
	}
	return nil
}

func (d *disk) use(kind string, size int64, grow bool) (err error) {
	filegate.Set(d.path, d.ask)
	defer filegate.Set(d.path, nil)
	dev, err := OpenDevice(d.path, OpenOptions{Kind: kind, Create: true, MaxBytes: 8 << 20})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, dev.Close()) }()
	if kind == "block" {
		dev = WithoutRing(dev) // the ring asks the gate only afterwards
	}
	want := make([]byte, size)
	if size == 0 || grow {
		if err := dev.Grow(1 << 20); err != nil {
			return err
		}
		want = make([]byte, dev.Size())
		if err := d.check("the first growth", want); err != nil {
			return err
		}
	}
	rng := rand.New(rand.NewPCG(11, 1))
	write := func(off, n int) error {
		p := bytes.Repeat([]byte{byte(1 + rng.IntN(255))}, n)
		copy(want[off:], p)
		return dev.Write(Off(off), p)
	}
	for range effort.Pick(40, 40, 120, 120) {
		for range 1 + rng.IntN(5) {
			n := 1 + rng.IntN(300)
			switch rng.IntN(12) {
			case 0:
				n = 100_000 // more than the stage holds
			case 1:
				n = 5 * PageBytes
			}
			if err := write(rng.IntN(len(want)-n), n); err != nil {
				return err
			}
		}
		switch rng.IntN(12) {
		case 0:
			if len(want) < 4<<20 {
				if err := dev.Grow(dev.Size() + 1<<18); err != nil {
					return err
				}
				want = append(want, make([]byte, dev.Size()-int64(len(want)))...)
				if err := d.checkSize("growth"); err != nil {
					return err
				}
			}
		case 1:
			off := rng.IntN(len(want)/PageBytes-4) * PageBytes
			if err := dev.Discard(Off(off), 4*PageBytes); err != nil {
				return err
			}
			clear(want[off : off+4*PageBytes])
			if err := dev.Allocate(Off(off), 4*PageBytes); err != nil {
				return err
			}
		case 2:
			if s, ok := dev.(interface{ Show() error }); ok {
				if err := s.Show(); err != nil {
					return err
				}
			}
		}
		if err := dev.Fence(); err != nil {
			return err
		}
		if err := d.check("a fence", want); err != nil {
			return err
		}
	}
	// Two events write staged bytes before a fence: a full stage, and a discard of staged bytes.
	for range 600 {
		if err := write(rng.IntN(len(want)/PageBytes-1)*PageBytes, PageBytes); err != nil {
			return err
		}
	}
	if err := errors.Join(dev.Fence(), d.check("a fence", want)); err != nil {
		return err
	}
	half := int64(len(want)) / 2
	want = want[:half]
	if err := dev.(interface{ Truncate(int64) error }).Truncate(half); err != nil {
		return err
	}
	return d.check("a cut", want)
}

// checkSize is check for a moment when only the size must be durable.
func (d *disk) checkSize(after string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.resized {
		return fmt.Errorf("behind %s the disk may still lose the size", after)
	}
	return nil
}

// TestFileMutation disables the writes and syncs of a file device, one place at a time, and
// requires that the model notices each. It also reads the source: a write or a sync that is never
// reached is an error.
func TestFileMutation(t *testing.T) {
	reached := map[string]bool{}
	for _, kind := range []string{"file", "block"} {
		t.Run(kind, func(t *testing.T) {
			dir := effort.Dir(t)
			all := &disk{places: map[string]int{}}
			if err := all.run(dir, kind); err != nil {
				if kind == "block" && errors.Is(err, errors.ErrUnsupported) {
					effort.NotTested(t, "%v", err)
				}
				t.Fatal(err)
			}
			for _, place := range slices.Sorted(maps.Keys(all.places)) {
				for _, m := range regexp.MustCompile(`\((\w+\.go:\d+)\)`).FindAllStringSubmatch(place, -1) {
					reached[m[1]] = true
				}
				without := &disk{places: map[string]int{}, lost: place}
				if err := without.run(dir, kind); err == nil {
					t.Errorf("unnoticed, left out %d times: %s", without.places[place], place)
				} else {
					t.Logf("%s\n\tnoticed: %v", place, err)
				}
			}
		})
	}
	for _, call := range fileCalls(t) {
		if !reached[call] {
			t.Errorf("the suite does not reach %s", call)
		}
	}
}

// fileCalls returns the places in the source of the package that write to a file with a gate, or
// sync one, as file.go:line.
func fileCalls(t *testing.T) (calls []string) {
	t.Helper()
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	call := regexp.MustCompile(`\.(fullSync|dataSync|enter|confirm)\(\)|filegate\.SyncDir|s\.file\.WriteAt\(|\.pager\.write\(`)
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") || file == "dax_linux.go" { // it needs such a file system: see testMadeByOthers
			continue
		}
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for i, line := range strings.Split(string(text), "\n") {
			if !strings.HasPrefix(line, "func ") && call.MatchString(line) {
				calls = append(calls, fmt.Sprintf("%s:%d", file, i+1))
			}
		}
	}
	if len(calls) < 6 {
		t.Fatalf("only %d calls in the source: %v", len(calls), calls)
	}
	return calls
}
