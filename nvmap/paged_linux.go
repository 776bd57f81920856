//go:build amd64 || arm64

package nvmap

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"runtime/debug"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"

	"nvkv/nvmap/internal/paging"
	"nvkv/nvmap/internal/uffd"
)

// init takes over the process if it is this program's binary, executed again to serve faults. It
// does so before main.
func init() {
	if os.Getenv(paging.RoleVariable) != "" && len(os.Args) > 0 && os.Args[0] == paging.Argv0 {
		ServePager()
	}
}

// Paged is the bytes of a device as a plain slice: the transparent map. Its pages are brought in
// when they are touched, and a bounded number of them is present at a time.
//
// The faults are served by another process, which OpenPaged starts: the program's own binary, or
// PagedOptions.Pager. It ends with the program. If the program is killed, it first writes back what
// was stored. If it is killed itself, another one takes over, and threads in faults wait meanwhile.
//
// All methods may be called from any goroutine at any time. See docs/nvmap.md for the limits.
type Paged struct {
	c      *paging.Client
	path   string
	closed atomic.Bool
}

// PagedSupported returns nil where OpenPaged works. Else the error says what is missing.
func PagedSupported() error {
	fd, _, err := uffd.New()
	if err != nil {
		return fmt.Errorf("nvmap: %w", err)
	}
	return fd.Close()
}

// OpenPaged maps the device at path. It needs Linux 6.6 on amd64 or arm64, and the permission to
// use userfaultfd; see PagedSupported. Where these are missing the error is an
// errors.ErrUnsupported.
func OpenPaged(path string, o *PagedOptions) (*Paged, error) {
	conf, command, logger, err := pagedConfig(path, o)
	if err != nil {
		return nil, err
	}
	space := conf.MaxBytes
	if !takeSpace(space) {
		spaceUsed.Add(-space)
		spaceHeld.Add(-space)
		return nil, noSpace(space, nil)
	}
	c, err := paging.Open(conf, command, logger)
	if err != nil {
		spaceUsed.Add(-space)
		spaceHeld.Add(-space)
		return nil, pagedError(err)
	}
	p := &Paged{c: c, path: path}
	runtime.AddCleanup(p, func(s paging.Span) { s.Free(); spaceHeld.Add(-space) }, c.Span())
	return p, nil
}

// pagedTrip kills the pager at a step. Tests set it.
var pagedTrip string

func pagedConfig(path string, o *PagedOptions) (conf paging.Config, command []string, logger *slog.Logger, err error) {
	opt := PagedOptions{}
	if o != nil {
		opt = *o
	}
	if opt.Device.Kind == "mem" {
		return conf, nil, nil, errors.New(`nvmap: device kind "mem" lies in one process, and the pager is another`)
	}
	if opt.Device.ReadOnly {
		return conf, nil, nil, errors.New("nvmap: a transparent map cannot be read-only yet: OpenOptions.ReadOnly")
	}
	if opt.CacheBytes == 0 {
		opt.CacheBytes = pagedCacheDefault
	}
	if opt.CacheBytes < pagedCacheLeast {
		return conf, nil, nil, fmt.Errorf("nvmap: PagedOptions.CacheBytes is %d, less than %d", opt.CacheBytes, pagedCacheLeast)
	}
	if opt.MaxBytes == 0 {
		opt.MaxBytes = opt.Device.MaxBytes
	}
	if opt.MaxBytes == 0 {
		opt.MaxBytes = defaultBound()
	}
	opt.MaxBytes = roundUp(opt.MaxBytes, PageBytes)
	opt.Device.MaxBytes = opt.MaxBytes
	if opt.Policy == "" {
		opt.Policy = DefaultPolicy
	}
	if len(opt.Pager) == 0 {
		if _, err := NewPolicy(opt.Policy); err != nil {
			return conf, nil, nil, err
		}
	}
	logger = opt.Logger
	if logger == nil {
		logger = slog.Default()
	}
	device, err := json.Marshal(opt.Device)
	return paging.Config{
		MaxBytes: opt.MaxBytes, Limit: opt.CacheBytes / PageBytes, Policy: opt.Policy,
		Path: path, Device: device, LockTime: opt.Device.LockTimeout, Trip: pagedTrip, NoSample: opt.NoSampling,
	}, opt.Pager, logger, err
}

// ServePager is the main function of a program named in PagedOptions.Pager, after it has registered
// its devices and policies. It never returns.
func ServePager() {
	paging.Serve(paging.Hooks{Open: openMedium, Policy: openPolicy, Class: classOf})
}

// Bytes returns the bytes of the device. The slice may be read and written as any other, from any
// goroutine, also after the map has grown. After Close its use is a fault.
//
// A page that cannot be read is a memory fault (SIGBUS), which a goroutine can recover after
// debug.SetPanicOnFault: see Faulted. Do not read a file with O_DIRECT into the slice: bytes are
// lost if their page is evicted meanwhile. Read into other memory and copy.
func (p *Paged) Bytes() []byte { return p.c.Bytes() }

// Size returns the number of usable bytes.
func (p *Paged) Size() int64 { return p.c.Size() }

// PrefaultRead returns when the pages of [off, off+n) are present, at most half of the cache at a
// time. It reads them in batches, and while it waits, other goroutines run. Pages that could not be
// read before are tried again.
func (p *Paged) PrefaultRead(off, n int64) error { return p.prefault(off, n, false) }

// PrefaultWrite is PrefaultRead for pages that will be stored to: the first store is no fault. The
// pages count as stored to.
func (p *Paged) PrefaultWrite(off, n int64) error { return p.prefault(off, n, true) }

func (p *Paged) prefault(off, n int64, write bool) error {
	if err := p.check("prefault", off, n); err != nil || n == 0 {
		return err
	}
	err := p.c.Prefault(off, n, write)
	switch {
	case errors.Is(err, unix.EFAULT) || errors.Is(err, unix.EHWPOISON) || errors.Is(err, errors.ErrUnsupported):
		return p.touch(off, n, write)
	}
	return pagedError(err)
}

// touch loads a byte of each page, or stores it unchanged. It finds the page that fails.
func (p *Paged) touch(off, n int64, write bool) (err error) {
	old := debug.SetPanicOnFault(true)
	defer func() {
		debug.SetPanicOnFault(old)
		if r := recover(); r != nil {
			err = p.Faulted(r, "read")
		}
	}()
	b := p.Bytes()
	for at := off &^ (PageBytes - 1); at < off+n; at += PageBytes {
		word := (*uint32)(unsafe.Pointer(&b[at]))
		if write {
			atomic.AddUint32(word, 0)
		} else {
			atomic.LoadUint32(word)
		}
	}
	return nil
}

func (p *Paged) check(op string, off, n int64) error {
	if p.closed.Load() {
		return ErrClosed
	}
	if size := p.Size(); off < 0 || n < 0 || off > size || n > size-off {
		return fmt.Errorf("nvmap: %s of %d bytes at %#x is outside the map (%d bytes)", op, n, off, size)
	}
	return nil
}

// Advise tells how [off, off+n) will be used.
func (p *Paged) Advise(off, n int64, a Advice) error {
	if a < AdviseNormal || a > AdviseDontNeed {
		return fmt.Errorf("nvmap: no advice %d", a)
	}
	if err := p.check("advice", off, n); err != nil || n == 0 {
		return err
	}
	return pagedError(p.c.Advise(off, n, int(a)))
}

// Sync returns nil when everything is durable that was stored before the call. After an error it
// is unknown which of it is; the next Sync tries again, unless a fence of the device failed.
func (p *Paged) Sync() error {
	if p.closed.Load() {
		return ErrClosed
	}
	return pagedError(p.c.Sync())
}

// Grow makes at least size bytes usable, durably. No address changes. New bytes read as zero. Call
// Bytes again to reach them.
func (p *Paged) Grow(size int64) error {
	if p.closed.Load() {
		return ErrClosed
	}
	return pagedError(p.c.Grow(size))
}

// ReadAt copies the bytes at off into b. Unlike a copy from Bytes it returns a page that cannot be
// read as a *FaultError, and the scheduler can stop it between pages.
func (p *Paged) ReadAt(b []byte, off int64) (n int, err error) {
	return p.eachPage(b, off, "read", func(mine, page []byte) { copy(mine, page) })
}

// WriteAt copies b to off, as ReadAt does.
func (p *Paged) WriteAt(b []byte, off int64) (n int, err error) {
	return p.eachPage(b, off, "write", func(mine, page []byte) { copy(page, mine) })
}

// eachPage calls move for the part of b in each page.
func (p *Paged) eachPage(b []byte, off int64, op string, move func(mine, page []byte)) (n int, err error) {
	if err := p.check(op, off, int64(len(b))); err != nil {
		return 0, err
	}
	old := debug.SetPanicOnFault(true)
	defer func() {
		debug.SetPanicOnFault(old)
		if r := recover(); r != nil {
			err = p.Faulted(r, op)
		}
	}()
	all := p.Bytes()
	for n < len(b) {
		at := off + int64(n)
		k := int(min(PageBytes-at%PageBytes, int64(len(b)-n)))
		move(b[n:n+k], all[at:at+int64(k)])
		n += k
		if n < len(b) {
			runtime.Gosched()
		}
	}
	return n, nil
}

// Faulted turns a memory fault in the map, as recover returned it, into a *FaultError. It panics
// again with anything else. op is the word for the access, "read" or "write".
func (p *Paged) Faulted(r any, op string) error {
	if f, ok := r.(addressed); ok {
		if at, in := p.c.Contains(f.Addr()); in {
			if p.closed.Load() {
				return ErrClosed
			}
			return &FaultError{Off: Off(at), Op: op, Err: errNotThere}
		}
	}
	panic(r)
}

// Stats returns counters. After Close they are zero.
func (p *Paged) Stats() PagedStats {
	c, generation := p.c.Counters()
	return PagedStats{
		Missing: c.Missing, Stores: c.Stores, Minor: c.Minor, Reads: c.Reads, ReadAhead: c.Ahead,
		Evictions: c.Evictions, WriteBacks: c.WriteBacks, Syncs: c.Syncs, Sampled: c.Sampled,
		Poisoned: c.Poisoned, Waits: c.Waits, Restarts: max(generation, 1) - 1,
		ResidentBytes:    int64(c.Resident) * PageBytes,
		ResidentMaxBytes: int64(c.ResidentMax) * PageBytes,
		DirtyBytes:       int64(c.Dirty) * PageBytes,
	}
}

// Close makes everything durable that was stored, and ends the processes. It returns the error of
// the last Sync. A second call returns nil.
func (p *Paged) Close() error {
	if p.closed.Swap(true) {
		return nil
	}
	err := pagedError(p.c.Close())
	spaceUsed.Add(-p.c.Space())
	return err
}
