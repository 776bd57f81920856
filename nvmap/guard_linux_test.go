package nvmap

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"testing"
	"unsafe"

	"nvkv/internal/effort"
)

// demandKeys makes missing protection keys a failure. It is for the virtual machine that is known
// to have them.
const demandKeys = "NVMAP_DEMAND_PKEYS"

// needKey skips the test if there are no keys.
func needKey(t *testing.T) {
	t.Helper()
	if k, why := processKey(); k == 0 {
		if os.Getenv(demandKeys) != "" {
			t.Fatalf("%s is set, and there are no protection keys: %s", demandKeys, why)
		}
		effort.NotTested(t, "no protection keys: %s", why)
	}
}

// openShm opens a store on tmpfs with the given protection and size in bytes.
func openShm(t testing.TB, p Protection, size int64) *shmDevice {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "nvmap")
	if err != nil {
		effort.NotTested(t, "no tmpfs: %v", err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	d, err := OpenDevice(filepath.Join(dir, "store"), OpenOptions{Create: true, Protect: p, MaxBytes: 1 << 30})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	if err := d.Grow(size); err != nil {
		t.Fatal(err)
	}
	return d.(*shmDevice)
}

// faults reports whether f faults.
func faults(f func()) (did bool) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil {
			_, did = r.(addressed)
			if !did {
				panic(r)
			}
		}
	}()
	f()
	return false
}

// strayStores tries to store into a device without Write, from the same thread. It reports the
// mappings that allowed it.
func strayStores(d *shmDevice, off int) (view, alias bool) {
	view = !faults(func() { d.Mapping()[off] = 'v' })
	alias = !faults(func() { d.alias.slice(0, d.Size())[off] = 'a' })
	return view, alias
}

// TestProtections checks that every protection stops the stores that it promises to stop.
func TestProtections(t *testing.T) {
	for _, c := range []struct {
		p           Protection
		view, alias bool
	}{{ProtectKey, false, false}, {ProtectMapping, false, true}, {ProtectNone, true, true}} {
		t.Run(c.p.String(), func(t *testing.T) {
			if c.p == ProtectKey {
				needKey(t)
			}
			d := openShm(t, c.p, 16*PageBytes)
			if got := d.Protection(); got != c.p {
				t.Fatalf("asked for %v, got %v", c.p, got)
			}
			if (c.p == ProtectNone) != (d.Info().Protect == protectNone) {
				t.Errorf("Info says %q", d.Info().Protect)
			}
			for _, grown := range []int64{0, 1 << 20} { // existing bytes, and bytes added by growth
				if err := d.Grow(d.Size() + grown); err != nil {
					t.Fatal(err)
				}
				at := int(d.Size()) - 100
				if err := d.Write(Off(at), []byte("stored")); err != nil {
					t.Fatal(err)
				}
				if got := string(d.Mapping()[at : at+6]); got != "stored" {
					t.Fatalf("read back %q", got)
				}
				if view, alias := strayStores(d, at); view != c.view || alias != c.alias {
					t.Errorf("a stray store passes the readers' mapping: %v, the other: %v; want %v, %v", view, alias, c.view, c.alias)
				}
			}
		})
	}
}

// TestKeyIsClosedOnEveryThread checks that a guarded alias is closed to reads as well, on every
// thread, including new ones.
func TestKeyIsClosedOnEveryThread(t *testing.T) {
	needKey(t)
	d := openShm(t, ProtectKey, PageBytes)
	at := d.alias.slice(0, PageBytes)
	var seen atomic.Uint32
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			runtime.LockOSThread() // never unlocked: each goroutine gets a thread, which ends with it
			if err := d.Write(0, []byte("x")); err != nil {
				t.Error(err)
			}
			if !faults(func() { at[1] = 1 }) || !faults(func() { seen.Add(uint32(at[0])) }) {
				t.Error("the alias is open to a thread that stores nothing")
			}
		})
	}
	wg.Wait()
}

// TestStoresWhileScheduled stores from many goroutines while the scheduler moves them, the
// collector runs and stray stores fault. All stored bytes must be there.
func TestStoresWhileScheduled(t *testing.T) {
	for _, p := range []Protection{ProtectKey, ProtectMapping} {
		t.Run(p.String(), func(t *testing.T) {
			if p == ProtectKey {
				needKey(t)
			}
			defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(16))
			const workers, slot, slots = 32, 2048, 16
			d := openShm(t, p, workers*slot*slots)
			rounds := 300
			if testing.Short() {
				rounds = 60
			}
			var stop atomic.Bool
			collector := make(chan struct{})
			go func() {
				defer close(collector)
				for !stop.Load() {
					runtime.GC()
				}
			}()
			var wg sync.WaitGroup
			for w := range workers {
				wg.Go(func() { storeAndCheck(t, d, w*slot*slots, slot, slots, rounds) })
			}
			wg.Wait()
			stop.Store(true)
			<-collector
		})
	}
}

// storeAndCheck stores into its own slots of a device and reads them back.
func storeAndCheck(t *testing.T, d *shmDevice, base, slot, slots, rounds int) {
	rng := rand.New(rand.NewPCG(uint64(base), 1))
	for i := range rounds {
		p := bytes.Repeat([]byte{byte(i)}, 1+rng.IntN(slot))
		off := base + rng.IntN(slots)*slot
		if err := d.Write(Off(off), p); err != nil {
			t.Errorf("store at %#x: %v", off, err)
			return
		}
		if i%4 == 0 {
			runtime.Gosched()
		}
		if i%16 == 0 {
			through := d.Mapping()
			if d.Protection() == ProtectKey {
				through = d.alias.slice(0, d.Size())
			}
			if !faults(func() { through[off] = 'x' }) {
				t.Error("a stray store went through")
				return
			}
		}
		if !bytes.Equal(d.Mapping()[off:off+len(p)], p) {
			t.Errorf("%d bytes at %#x are not there", len(p), off)
			return
		}
	}
}

// TestKeyIsClosedAfterAFault checks that the key is closed again after a store that faulted
// half-way.
func TestKeyIsClosedAfterAFault(t *testing.T) {
	needKey(t)
	d := openShm(t, ProtectKey, 16*PageBytes)
	if err := os.Truncate(d.path, 4*PageBytes); err != nil {
		t.Fatal(err)
	}
	runtime.LockOSThread() // stay on the thread that stored
	defer runtime.UnlockOSThread()
	for _, m := range movers() {
		if !m.keyed {
			continue
		}
		d.mover = m
		var fault *FaultError
		if err := d.Write(10*PageBytes, make([]byte, 100)); !errors.As(err, &fault) || fault.Op != "write" {
			t.Fatalf("%s: storing into what is gone: %v", m.name, err)
		}
		if _, alias := strayStores(d, 100); alias {
			t.Errorf("%s: the key stayed open", m.name)
		}
		if err := d.Write(0, d.Mapping()[10*PageBytes:10*PageBytes+64]); !errors.As(err, &fault) || fault.Op != "read" {
			t.Fatalf("%s: storing from what is gone: %v", m.name, err)
		}
		if _, alias := strayStores(d, 100); alias {
			t.Errorf("%s: the key stayed open", m.name)
		}
	}
}

// TestSetProtectionInUse changes the protection while others read and write. No write may be lost.
func TestSetProtectionInUse(t *testing.T) {
	d := openShm(t, ProtectBest, 64*PageBytes)
	best := d.Protection()
	var stop atomic.Bool
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			off := w * 16 * PageBytes
			for i := 0; !stop.Load(); i++ {
				p := fmt.Appendf(nil, "write %d", i)
				if err := d.Write(Off(off), p); err != nil {
					t.Errorf("write %d: %v", i, err)
					return
				}
				if !bytes.Equal(d.Mapping()[off:off+len(p)], p) {
					t.Errorf("write %d is not there", i)
					return
				}
			}
		})
	}
	for i := range 300 {
		p := []Protection{ProtectNone, ProtectBest, ProtectMapping, ProtectBest}[i%4]
		if err := d.SetProtection(p); err != nil {
			t.Fatal(err)
		}
		if i%50 == 0 {
			if err := d.Grow(d.Size() + PageBytes); err != nil {
				t.Fatal(err)
			}
		}
	}
	stop.Store(true)
	wg.Wait()
	if view, alias := strayStores(d, 100); view || alias != (best == ProtectMapping) || d.Protection() != best {
		t.Errorf("in the end: %v, stray stores pass %v, %v", d.Protection(), view, alias)
	}
}

// TestProtectionWithoutKeys checks that without keys "best" is the fallback, and that asking for
// keys is an error.
func TestProtectionWithoutKeys(t *testing.T) {
	if p, err := ProtectBest.resolve(portableMover); p != ProtectMapping || err != nil {
		t.Errorf("best without keys: %v, %v", p, err)
	}
	if _, err := ProtectKey.resolve(portableMover); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("asking for what is not there: %v", err)
	}
	d := openShm(t, ProtectBest, PageBytes)
	if err := d.SetProtection(Protection(17)); err == nil {
		t.Error("there is no protection 17")
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if err := d.SetProtection(ProtectNone); !errors.Is(err, ErrClosed) {
		t.Errorf("on a closed device: %v", err)
	}
}

// TestProtectionReadOnly checks that a read-only device has no mapping that could become writable.
func TestProtectionReadOnly(t *testing.T) {
	d := openShm(t, ProtectBest, PageBytes)
	path := d.path
	d.Close()
	r, err := OpenDevice(path, OpenOptions{ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	m, err := NewMap(r, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := m.SetProtection(ProtectNone); !errors.Is(err, ErrReadOnly) {
		t.Errorf("opening a read-only mapping for writing: %v", err)
	}
	if !faults(func() { r.Mapping()[0] = 1 }) {
		t.Error("a stray store went through")
	}
}

// TestStrayStoresThroughMap checks that every device address that a reader of a map gets is
// protected: views, and pages without a frame.
func TestStrayStoresThroughMap(t *testing.T) {
	for _, kind := range []string{"shm", "file"} {
		t.Run(kind, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "store")
			if kind == "shm" {
				path = filepath.Join(filepath.Dir(openShm(t, ProtectBest, PageBytes).path), "other")
			}
			d, err := OpenDevice(path, OpenOptions{Create: true, MaxBytes: 1 << 30})
			if err != nil {
				t.Fatal(err)
			}
			m, err := NewMap(d, nil)
			if err != nil {
				t.Fatal(err)
			}
			defer m.Close()
			if err := m.Grow(8 * PageBytes); err != nil {
				t.Fatal(err)
			}
			f, err := m.Frame(3)
			if err != nil {
				t.Fatal(err)
			}
			f[0] = 1 // a frame is DRAM, and writable
			if !faults(func() { m.View(5000, 8)[3] = 1 }) {
				t.Error("a stray store through a view went through")
			}
			if !faults(func() { m.Page(2)[17] = 1 }) {
				t.Error("a stray store through a page on the device went through")
			}
			if err := errors.Join(m.WriteBack(3, 0, PageBytes), m.Fence()); err != nil {
				t.Fatal(err)
			}
			m.Clean(3)
			m.Drop([]PageID{3})
			if !faults(func() { m.Page(3)[0] = 2 }) || m.Page(3)[0] != 1 {
				t.Error("a page that left its frame is not protected")
			}
		})
	}
}

// BenchmarkGuardedStore compares a store with the key and one without.
func BenchmarkGuardedStore(b *testing.B) {
	for _, p := range []Protection{ProtectMapping, ProtectKey} {
		if k, why := processKey(); p == ProtectKey && k == 0 {
			b.Skip(why)
		}
		d := openShm(b, p, 64<<20)
		for _, n := range []int{64, 152, 1024, 4096} {
			b.Run(fmt.Sprintf("%v/%d", p, n), func(b *testing.B) {
				src := make([]byte, n)
				off := 0
				for b.Loop() {
					if off += (n + 7) &^ 7; off > 64<<20-n {
						off = 0
					}
					if err := d.Write(Off(off), src); err != nil {
						b.Fatal(err)
					}
					d.mover.drain()
				}
			})
		}
	}
}

// BenchmarkKeyPair measures opening and closing the key alone: a store of no bytes.
func BenchmarkKeyPair(b *testing.B) {
	k, why := processKey()
	if k == 0 {
		b.Skip(why)
	}
	store := movers()[0].store
	var x [8]byte
	for b.Loop() {
		store(unsafe.Pointer(&x), unsafe.Pointer(&x), 0, k)
	}
}
