//go:build amd64 || arm64

package nvmap_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"nvkv/internal/effort"
	"nvkv/nvmap"
)

func init() { helperFirst = pagedHelper }

// pagedHelper is what a copy of this test binary does: it is a third party's pager, or a program
// that will be killed.
func pagedHelper() {
	if os.Getenv("NVMAP_PAGER") != "" {
		nvmap.RegisterDevice("faulty", openFaulty)
		nvmap.ServePager()
	}
	if os.Getenv(helper) == "paged" {
		pagedProgram()
	}
}

// faultyRules is what a "faulty" device does wrong. It lies in a file beside the medium, because
// the device is in another process.
type faultyRules struct {
	Read, Write, Fence bool // the calls fail
	Page               int64
	Writes             bool // all writes fail
	Full               bool // growth fails
	Absent             bool // it cannot be opened
	Latency            time.Duration
}

func (r faultyRules) store(t testing.TB, path string) {
	t.Helper()
	text, err := json.Marshal(r)
	if err == nil {
		err = os.WriteFile(path+".new", text, 0o600)
	}
	if err == nil {
		err = os.Rename(path+".new", path+".rules")
	}
	if err != nil {
		t.Fatal(err)
	}
}

func loadRules(path string) (r faultyRules) {
	if text, err := os.ReadFile(path + ".rules"); err == nil {
		_ = json.Unmarshal(text, &r)
	}
	return r
}

// openFaulty opens a simulated medium over a file, whose rules can change at any time.
func openFaulty(path string, o nvmap.OpenOptions) (nvmap.Device, error) {
	if r := loadRules(path); r.Absent {
		return nil, errors.New("the device was unplugged")
	}
	o.Kind = "file"
	d, err := nvmap.OpenDevice(path, o)
	if err != nil {
		return nil, err
	}
	s := nvmap.NewSim(d)
	s.HideMapping()
	s.FailIf(func(a nvmap.Access) error {
		r := loadRules(path)
		time.Sleep(r.Latency)
		page := nvmap.Off(r.Page) * nvmap.PageBytes
		here := a.Off < page+nvmap.PageBytes && page < a.Off+nvmap.Off(a.Bytes)
		switch {
		case r.Absent:
			return errors.New("the device was unplugged")
		case a.Op == "write" && r.Writes, a.Op == "read" && r.Read && here, a.Op == "write" && r.Write && here, a.Op == "fence" && r.Fence:
			return errors.New("made to fail")
		case a.Op == "grow" && r.Full:
			return nvmap.ErrFull
		}
		return nil
	})
	return s, nil
}

func faultyOptions(cache int64) *nvmap.PagedOptions {
	return &nvmap.PagedOptions{
		CacheBytes: cache, Device: nvmap.OpenOptions{Kind: "faulty"}, Pager: []string{os.Args[0]},
		MaxBytes: 64 << 20,
	}
}

// load returns a byte of the map, or the error of its page.
func load(p *nvmap.Paged, at int64) (v byte, err error) {
	old := debug.SetPanicOnFault(true)
	defer func() {
		debug.SetPanicOnFault(old)
		if r := recover(); r != nil {
			err = p.Faulted(r, "read")
		}
	}()
	return p.Bytes()[at], nil
}

// TestPagedReadError checks that a page that cannot be read is an error and never zeros, and that
// prefaulting tries it again.
func TestPagedReadError(t *testing.T) {
	needPaged(t)
	path := pagedFile(t, effort.Dir(t), 256)
	faultyRules{Read: true, Page: 7}.store(t, path)
	p := openPaged(t, path, faultyOptions(256<<10))
	for range 2 {
		_, err := load(p, 7*nvmap.PageBytes+100)
		var fault *nvmap.FaultError
		if !errors.As(err, &fault) || fault.Off.Page() != 7 || !errors.Is(err, nvmap.ErrMediaFault) {
			t.Fatalf("page 7: %v", err)
		}
	}
	if v, err := load(p, 8*nvmap.PageBytes); v != 8 || err != nil {
		t.Fatalf("page 8: %d, %v", v, err)
	}
	if n, err := p.ReadAt(make([]byte, 3*nvmap.PageBytes), 5*nvmap.PageBytes); n != 2*nvmap.PageBytes || !errors.Is(err, nvmap.ErrMediaFault) {
		t.Errorf("ReadAt: %d, %v", n, err)
	}
	if err := p.PrefaultRead(6*nvmap.PageBytes, 3*nvmap.PageBytes); !errors.Is(err, nvmap.ErrMediaFault) {
		t.Errorf("PrefaultRead of a page that cannot be read: %v", err)
	}
	if err := p.PrefaultWrite(6*nvmap.PageBytes, 3*nvmap.PageBytes); !errors.Is(err, nvmap.ErrMediaFault) {
		t.Errorf("PrefaultWrite of a page that cannot be read: %v", err)
	}
	if s := p.Stats(); s.Poisoned == 0 {
		t.Errorf("%+v", s)
	}
	faultyRules{}.store(t, path)
	if err := p.PrefaultRead(6*nvmap.PageBytes, 3*nvmap.PageBytes); err != nil {
		t.Fatalf("PrefaultRead of a page that can be read again: %v", err)
	}
	if v, err := load(p, 7*nvmap.PageBytes); v != 7 || err != nil {
		t.Errorf("page 7: %d, %v", v, err)
	}
}

// TestPagedWriteError checks that bytes that the device does not take stay, that Sync says so, and
// that a later Sync writes them. When nothing can leave, faults are errors.
func TestPagedWriteError(t *testing.T) {
	needPaged(t)
	const pages = 512
	path := pagedFile(t, effort.Dir(t), pages)
	p := openPaged(t, path, faultyOptions(256<<10))
	b := p.Bytes()
	faultyRules{Write: true, Page: 3}.store(t, path)
	b[3*nvmap.PageBytes+9] = 99
	b[4*nvmap.PageBytes+9] = 98
	if err := p.Sync(); !errors.Is(err, nvmap.ErrMediaFault) {
		t.Fatalf("Sync: %v", err)
	}
	for i := range pages { // page 3 cannot leave
		if v, err := load(p, int64(i)*nvmap.PageBytes); v != byte(i) || err != nil {
			t.Fatalf("page %d: %d, %v", i, v, err)
		}
	}
	if b[3*nvmap.PageBytes+9] != 99 || b[4*nvmap.PageBytes+9] != 98 {
		t.Fatal("a store was lost")
	}
	faultyRules{}.store(t, path)
	if err := p.Sync(); err != nil {
		t.Fatal(err)
	}
	onDisk, err := os.ReadFile(path)
	if err != nil || onDisk[3*nvmap.PageBytes+9] != 99 || onDisk[4*nvmap.PageBytes+9] != 98 {
		t.Fatalf("Sync did not write: %v", err)
	}

	faultyRules{Writes: true}.store(t, path)
	var refused error
	stored := map[int]byte{}
	for i := 0; i < pages && refused == nil; i++ {
		if refused = storeByte(p, int64(i)*nvmap.PageBytes+11, byte(i+1)); refused == nil {
			stored[i] = byte(i + 1)
		}
	}
	if !errors.Is(refused, nvmap.ErrMediaFault) || len(stored) < 10 {
		t.Fatalf("%d pages were stored to on a device that takes none: %v", len(stored), refused)
	}
	for i, v := range stored {
		if b[i*nvmap.PageBytes+11] != v {
			t.Fatalf("page %d lost a store", i)
		}
	}
	faultyRules{}.store(t, path)
	if err := p.Sync(); err != nil {
		t.Fatal(err)
	}
	if onDisk, err = os.ReadFile(path); err != nil {
		t.Fatal(err)
	}
	for i, v := range stored {
		if onDisk[i*nvmap.PageBytes+11] != v {
			t.Fatalf("page %d was not written", i)
		}
	}
}

func storeByte(p *nvmap.Paged, at int64, v byte) (err error) {
	old := debug.SetPanicOnFault(true)
	defer func() {
		debug.SetPanicOnFault(old)
		if r := recover(); r != nil {
			err = p.Faulted(r, "write")
		}
	}()
	p.Bytes()[at] = v
	return nil
}

// TestPagedFenceError checks that no Sync succeeds after a fence has failed.
func TestPagedFenceError(t *testing.T) {
	needPaged(t)
	path := pagedFile(t, effort.Dir(t), 64)
	p, err := nvmap.OpenPaged(path, faultyOptions(256<<10))
	if err != nil {
		t.Fatal(err)
	}
	p.Bytes()[5] = 1
	faultyRules{Fence: true}.store(t, path)
	if err := p.Sync(); !errors.Is(err, nvmap.ErrMediaFault) {
		t.Errorf("Sync: %v", err)
	}
	faultyRules{}.store(t, path)
	_, pager := p.Processes()
	if err := unix.Kill(pager, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if err := p.Sync(); err == nil && p.Stats().DirtyBytes == 0 {
		onDisk, _ := os.ReadFile(path)
		if onDisk[5] != 1 {
			t.Error("Sync returned nil and the byte is not there")
		}
	}
	within(t, p, "Close", func() { _ = p.Close() })
}

// TestPagedFull checks that a full device is an error of Grow, and that the map goes on.
func TestPagedFull(t *testing.T) {
	needPaged(t)
	path := pagedFile(t, effort.Dir(t), 64)
	p := openPaged(t, path, faultyOptions(256<<10))
	b := p.Bytes()
	b[1] = 77
	faultyRules{Full: true}.store(t, path)
	if err := p.Grow(128 * nvmap.PageBytes); !errors.Is(err, nvmap.ErrFull) {
		t.Fatalf("Grow: %v", err)
	}
	if err := p.Grow(1 << 40); !errors.Is(err, nvmap.ErrFull) {
		t.Fatalf("Grow beyond MaxBytes: %v", err)
	}
	if p.Size() != 64*nvmap.PageBytes || b[1] != 77 {
		t.Fatal("the map changed")
	}
	faultyRules{}.store(t, path)
	if err := p.Grow(128 * nvmap.PageBytes); err != nil {
		t.Fatal(err)
	}
	more := p.Bytes()
	if len(more) < 128*nvmap.PageBytes || &more[0] != &b[0] || more[1] != 77 || more[100*nvmap.PageBytes] != 0 {
		t.Fatalf("%d bytes after Grow", len(more))
	}
	more[127*nvmap.PageBytes] = 5
	if err := p.Sync(); err != nil {
		t.Fatal(err)
	}
	onDisk, err := os.ReadFile(path)
	if err != nil || len(onDisk) < 128*nvmap.PageBytes || onDisk[127*nvmap.PageBytes] != 5 {
		t.Fatalf("%d bytes, %v", len(onDisk), err)
	}
}

// TestPagedDeviceCut cuts the device while the pager is dead. What is present stays; the rest is an
// error, until the device is back.
func TestPagedDeviceCut(t *testing.T) {
	needPaged(t)
	path := pagedFile(t, effort.Dir(t), 256)
	p := openPaged(t, path, faultyOptions(512<<10))
	b := p.Bytes()
	b[3*nvmap.PageBytes+1] = 42
	faultyRules{Absent: true}.store(t, path)
	_, pager := p.Processes()
	if err := unix.Kill(pager, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if v, err := load(p, 200*nvmap.PageBytes); !errors.Is(err, nvmap.ErrMediaFault) {
		t.Fatalf("a page of a device that was cut: %d, %v", v, err)
	}
	if v, err := load(p, 3*nvmap.PageBytes+1); v != 42 || err != nil {
		t.Fatalf("a page that is present: %d, %v", v, err)
	}
	if err := p.Sync(); err == nil {
		t.Fatal("Sync to a device that was cut")
	}
	faultyRules{}.store(t, path)
	time.Sleep(200 * time.Millisecond) // it is tried again each tenth of a second
	if err := p.Sync(); err != nil {
		t.Fatal(err)
	}
	if err := p.PrefaultRead(200*nvmap.PageBytes, 1); err != nil {
		t.Fatal(err)
	}
	if v, err := load(p, 200*nvmap.PageBytes); v != 200 || err != nil {
		t.Fatalf("page 200: %d, %v", v, err)
	}
	if onDisk, err := os.ReadFile(path); err != nil || onDisk[3*nvmap.PageBytes+1] != 42 {
		t.Fatalf("the store was lost (%v)", err)
	}
	if s := p.Stats(); s.Restarts == 0 {
		t.Errorf("%+v", s)
	}
}

// pagedSteps are the steps at which the pager kills itself in a test.
var pagedSteps = []string{
	"start.opened", "start.recovered", "fault.read", "fill.read", "fill.marked", "fill.copied", "ahead.read", "store.marked",
	"write.protected", "write.written", "write.settled", "write.cleared", "evict.punched", "flush.written",
	"flush.fenced", "grow.grown", "close.flushed",
}

// TestPagedKilledAtEachStep kills the pager at each of its steps, the first time and a later time,
// while one goroutine works on the map, and compares every byte.
func TestPagedKilledAtEachStep(t *testing.T) {
	needPaged(t)
	defer nvmap.SetPagedTrip("")
	dir := effort.Dir(t)
	for _, step := range pagedSteps {
		for _, at := range effort.Pick([]int{1}, []int{1}, []int{1, 2, 5}, []int{1, 2, 3, 5, 8}) {
			if prefix, _, _ := strings.Cut(step, "."); at > 1 && (prefix == "start" || prefix == "flush" || prefix == "grow" || prefix == "close") {
				continue // the test comes to such a step once or a few times
			}
			t.Run(fmt.Sprintf("%s/%d", step, at), func(t *testing.T) {
				nvmap.SetPagedTrip(fmt.Sprintf("%s:%d", step, at))
				testKilledAtStep(t, dir, step)
			})
		}
	}
}

func testKilledAtStep(t *testing.T, dir, step string) {
	const pages = 160
	path := pagedFile(t, dir, pages)
	o := &nvmap.PagedOptions{CacheBytes: 256 << 10, Policy: "clock", MaxBytes: 4 << 20, Logger: quietLogger()}
	p := openPaged(t, path, o)
	model, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	b := p.Bytes()
	within(t, p, step, func() {
		for round := range 3 {
			for i := range pages {
				if b[i*nvmap.PageBytes] != model[i*nvmap.PageBytes] {
					t.Errorf("page %d holds %d", i, b[i*nvmap.PageBytes])
					return
				}
				if i%3 == round {
					at := i*nvmap.PageBytes + 8 + round
					b[at]++
					model[at]++
				}
			}
			if err := p.Sync(); err != nil {
				t.Errorf("Sync: %v", err)
			}
			if onDisk, err := os.ReadFile(path); err != nil || !bytes.Equal(onDisk[:len(model)], model) {
				t.Errorf("after Sync %d the file differs (%v)", round, err)
			}
		}
		if err := p.Grow((pages + 16) * nvmap.PageBytes); err != nil {
			t.Error(err)
		}
		if b = p.Bytes(); len(b) < (pages+16)*nvmap.PageBytes {
			t.Errorf("%d bytes after Grow", len(b))
			return
		}
		model = append(model, make([]byte, len(b)-len(model))...)
		b[pages*nvmap.PageBytes] = 200
		model[pages*nvmap.PageBytes] = 200
		if !bytes.Equal(b, model) {
			t.Error("the map differs from the model")
		}
		restarts := p.Stats().Restarts
		if err := p.Close(); err != nil {
			t.Error(err)
		}
		if step != "close.flushed" && restarts == 0 {
			t.Errorf("the pager was not killed")
		}
	})
	if onDisk, err := os.ReadFile(path); err != nil || !bytes.Equal(onDisk, model) {
		t.Errorf("after Close the file differs (%v)", err)
	}
}

// TestPagedSupervisorKilled kills the supervisor, then both processes: others take over.
func TestPagedSupervisorKilled(t *testing.T) {
	needPaged(t)
	const pages = 256
	path := pagedFile(t, effort.Dir(t), pages)
	p := openPaged(t, path, &nvmap.PagedOptions{CacheBytes: 256 << 10, Logger: quietLogger()})
	b := p.Bytes()
	for round := range 4 {
		within(t, p, "a map without supervisor", func() {
			supervisor, pager := p.Processes()
			both := round%2 == 1
			if both {
				_ = unix.Kill(pager, unix.SIGSTOP) // it cannot notice
			}
			if err := unix.Kill(supervisor, unix.SIGKILL); err != nil {
				t.Error(err)
			}
			if both {
				_ = unix.Kill(pager, unix.SIGKILL)
				for now := pager; now == pager; _, now = p.Processes() {
					time.Sleep(time.Millisecond) // no fault while the program must start them
				}
			}
			for i := range pages {
				if b[i*nvmap.PageBytes+8] != byte(round) {
					t.Errorf("round %d: page %d holds %d", round, i, b[i*nvmap.PageBytes+8])
					return
				}
				b[i*nvmap.PageBytes+8]++
			}
			if err := p.Sync(); err != nil {
				t.Error(err)
			}
			for now := supervisor; now == supervisor; now, _ = p.Processes() {
				time.Sleep(time.Millisecond)
			}
		})
	}
	if _, err := nvmap.OpenPaged(path, nil); !errors.Is(err, nvmap.ErrLocked) {
		t.Errorf("the next supervisor does not hold the lock: %v", err)
	}
}

// pagedProgram is a program that stores to a map and waits to be killed.
func pagedProgram() {
	p, err := nvmap.OpenPaged(os.Getenv("NVMAP_TEST_FILE"), &nvmap.PagedOptions{CacheBytes: 256 << 10})
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	b := p.Bytes()
	for i := 0; i < len(b); i += nvmap.PageBytes {
		b[i+8] = byte(i/nvmap.PageBytes) + 1
	}
	fmt.Println("stored")
	_, _ = io.Copy(io.Discard, os.Stdin)
	select {}
}

// TestPagedProgramKilled kills the program: its pager writes back what it stored, and ends.
func TestPagedProgramKilled(t *testing.T) {
	needPaged(t)
	const pages = 200
	path := pagedFile(t, effort.Dir(t), pages)
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), helper+"=paged", "NVMAP_TEST_FILE="+path)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	line := make([]byte, 100)
	n, _ := out.Read(line)
	if got := strings.TrimSpace(string(line[:n])); got != "stored" {
		t.Errorf("the program says %q", got)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	d, err := nvmap.OpenDevice(path, nvmap.OpenOptions{LockTimeout: effort.Hang})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	onDisk, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for i := range pages {
		if onDisk[i*nvmap.PageBytes+8] != byte(i)+1 || onDisk[i*nvmap.PageBytes] != byte(i) {
			t.Fatalf("page %d lost the store of the program that was killed", i)
		}
	}
}

// TestPagedBesideForks starts processes while goroutines fault.
func TestPagedBesideForks(t *testing.T) {
	needPaged(t)
	const pages = 512
	path := pagedFile(t, effort.Dir(t), pages)
	p := openPaged(t, path, &nvmap.PagedOptions{CacheBytes: 256 << 10})
	b := p.Bytes()
	var stop atomic.Bool
	var wg sync.WaitGroup
	for g := range 2 {
		wg.Go(func() {
			for round := 0; !stop.Load() || round < 1; round++ {
				for i := g; i < pages; i += 2 {
					if b[i*nvmap.PageBytes] != byte(i) || b[i*nvmap.PageBytes+16] != byte(round) {
						t.Errorf("page %d is wrong", i)
						return
					}
					b[i*nvmap.PageBytes+16]++
				}
			}
		})
	}
	for range effort.Pick(5, 10, 50, 200) {
		if err := exec.Command("true").Run(); err != nil {
			t.Error(err)
		}
	}
	stop.Store(true)
	within(t, p, "goroutines beside forks", wg.Wait)
}

// TestPagedRefuses checks what OpenPaged does not take.
func TestPagedRefuses(t *testing.T) {
	needPaged(t)
	path := pagedFile(t, effort.Dir(t), 64)
	for _, c := range []struct {
		path string
		o    nvmap.PagedOptions
		want string
		is   error
	}{
		{path, nvmap.PagedOptions{Device: nvmap.OpenOptions{Kind: "mem"}}, "one process", nil},
		{path, nvmap.PagedOptions{Device: nvmap.OpenOptions{Kind: "ruler"}}, "no device kind", nil},
		{path, nvmap.PagedOptions{Device: nvmap.OpenOptions{ReadOnly: true}}, "read-only", nil},
		{path, nvmap.PagedOptions{CacheBytes: 4096}, "CacheBytes", nil},
		{path, nvmap.PagedOptions{Policy: "random"}, "no cache policy", nil},
		{path, nvmap.PagedOptions{Pager: []string{"/nowhere/pager"}}, "starting the pager", os.ErrNotExist},
		{path, nvmap.PagedOptions{Pager: []string{"true"}}, "ended while it was started", nil},
		{path, nvmap.PagedOptions{MaxBytes: 16 * nvmap.PageBytes}, "", nil},
		{filepath.Join(path, "below"), nvmap.PagedOptions{}, "medium", nil},
		{path + "absent", nvmap.PagedOptions{}, "absent", os.ErrNotExist},
	} {
		p, err := nvmap.OpenPaged(c.path, &c.o)
		if err == nil {
			p.Close()
			if c.want == "" {
				continue
			}
		}
		if err == nil || !strings.Contains(err.Error(), c.want) || c.is != nil && !errors.Is(err, c.is) {
			t.Errorf("%+v: %v", c.o, err)
		}
	}
	p := openPaged(t, path, nil)
	if _, err := nvmap.OpenPaged(path, nil); !errors.Is(err, nvmap.ErrLocked) {
		t.Errorf("opened twice: %v", err)
	}
	if err := p.PrefaultRead(0, 65*nvmap.PageBytes); err == nil {
		t.Error("PrefaultRead beyond the end")
	}
	if err := p.Advise(0, 1, 77); err == nil {
		t.Error("an advice that does not exist")
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := p.ReadAt(make([]byte, 1), 0); !errors.Is(err, nvmap.ErrClosed) {
		t.Errorf("ReadAt after Close: %v", err)
	}
}

// TestPagedAfterClose checks that a slice of a closed map faults.
func TestPagedAfterClose(t *testing.T) {
	needPaged(t)
	p := openPaged(t, pagedFile(t, effort.Dir(t), 64), nil)
	b := p.Bytes()
	if b[nvmap.PageBytes] != 1 {
		t.Fatal(b[nvmap.PageBytes])
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	old := debug.SetPanicOnFault(true)
	defer debug.SetPanicOnFault(old)
	defer func() {
		if err := p.Faulted(recover(), "read"); !errors.Is(err, nvmap.ErrClosed) {
			t.Error(err)
		}
	}()
	t.Errorf("a closed map reads %d", b[nvmap.PageBytes])
}
