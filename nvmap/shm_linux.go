package nvmap

import (
	"runtime/debug"
	"unsafe"
)

// shmDevice is a file on tmpfs or hugetlbfs: memory that outlives the process and emulates NVM.
// Readers have a read-only mapping. The store routine uses a second, writable mapping of the same
// pages.
type shmDevice struct{ *fileMap }

func newShm(fm *fileMap) Device {
	d := &shmDevice{fm}
	releaseWith(d, fm)
	return d
}

func (d *shmDevice) Info() Info {
	return Info{
		Kind:     "shm",
		Path:     d.path,
		Why:      d.why,
		Mapped:   true,
		Volatile: true,
		Domain:   "the memory of this machine, emulating NVM; it outlives the process and not the power",
		Mover:    d.mover.name,
		Unit:     lineBytes,
		Sector:   8,
		MaxBytes: d.maxBytes(),
		Scant:    d.scant(),
		Note:     d.mover.note,
		Protect:  d.Protection().words(),
	}
}

// Write stores p with instructions that bypass or write back the caches. It returns a fault, from a
// failing medium or a truncated file, as an error.
func (d *shmDevice) Write(off Off, p []byte) error {
	if err := d.checkWrite("write", off, int64(len(p))); err != nil {
		return err
	}
	for {
		k := d.pkey()
		err := d.store(off, p, k)
		if err == nil || d.pkey() == k {
			return err
		}
		// Another goroutine put the alias under a key meanwhile, or removed it from one.
	}
}

// store is the only code that stores through the alias. k is the key of the alias.
func (d *shmDevice) store(off Off, p []byte, k pkey) (err error) {
	k.begin()
	old := debug.SetPanicOnFault(true)
	defer func() {
		debug.SetPanicOnFault(old)
		r := recover()
		k.end(r != nil)
		if r != nil {
			err = d.fault(r, off, len(p))
		}
	}()
	d.mover.store(unsafe.Add(d.alias.base, off), unsafe.Pointer(unsafe.SliceData(p)), uintptr(len(p)), k)
	return nil
}

// fault returns the error of a store of n bytes at off that faulted. The fault may lie at the
// source, if that is a view of this device, or at the destination. There a masked store may report
// an address up to two words around its bytes.
func (d *shmDevice) fault(r any, off Off, n int) error {
	if f, ok := r.(addressed); ok {
		if at, in := d.alias.contains(f.Addr()); in {
			at := min(max(Off(at), off), off+Off(n)-1)
			return &FaultError{Off: at, Op: "write", Err: errNotThere}
		}
	}
	return faulted(r, "read", d.view)
}

func (d *shmDevice) Fence() error {
	if d.closed.Load() {
		return ErrClosed
	}
	d.mover.drain()
	return nil
}

func (d *shmDevice) Close() error { return d.close() }
