package nvmap

import (
	"errors"
	"fmt"
)

// PageBytes is the unit of mapping, caching and index storage, in bytes.
const PageBytes = 4096

// Off is a byte offset on a device. Zero is the nil offset on the medium: it lies in the
// superblock, where no other structure is stored.
type Off uint64

// PageID numbers the pages of a device: page p covers the bytes
// [p*PageBytes, (p+1)*PageBytes).
type PageID uint64

// Off returns the offset of the first byte of p.
func (p PageID) Off() Off { return Off(p) * PageBytes }

// Page returns the page that holds the byte at o.
func (o Off) Page() PageID { return PageID(o / PageBytes) }

// A Device stores bytes that persist. Every package reaches a medium through this interface only,
// so all kinds of device and the crash simulator are interchangeable.
//
// The persistence model is Write, then Fence. A write is durable when a Fence that was called after
// the write had returned has itself returned nil. Until then its bytes may reach the medium in any
// order or not at all, and it may tear at 8-byte granularity. A write never changes bytes beside
// its range.
//
// A Fence covers the writes of all goroutines. For a write of another goroutine, "called after"
// means that the Go memory model orders the two: a channel, a mutex or an atomic value lies between
// them. A device may rely on that.
//
// Reads, the mapping and Size may be used from any number of goroutines, also during a write. A
// read that overlaps a write in progress returns a mixture of old and new 8-byte words. Write,
// Fence and Discard may be called from several goroutines as long as their ranges do not overlap,
// also during a Grow. Only one goroutine at a time may call Grow or Close.
//
// After Close, every method that returns an error returns ErrClosed, and Close itself nil. A change
// of a read-only device returns ErrReadOnly, its Fence nil, and a failed access to the medium a
// *FaultError. A range outside Size gives another error. Errors may be wrapped: use errors.Is and
// errors.As. A device either grows, from a size of 0, or is of a fixed size, which is Info.MaxBytes.
type Device interface {
	// Info describes the device and its promises.
	Info() Info

	// Size returns the number of usable bytes, a multiple of PageBytes.
	Size() int64

	// Grow makes at least size bytes usable and makes the new size durable. The blocks are
	// allocated on the medium before the call returns, so a full medium gives an error here
	// (ErrFull) and never a fault later. New bytes read as zero. A device of at least size bytes
	// stays as it is and Grow returns nil. A size beyond Info.MaxBytes is ErrFull. A failed Grow
	// leaves the device as it was.
	Grow(size int64) error

	// Mapping returns a read-only view of the device. It returns nil where the CPU cannot map the
	// device, or reads a mapping badly. The length is the address space reserved (Info.MaxBytes).
	// Bytes at and beyond Size must not be touched. The address does not change while the device is
	// open, and means nothing after Close. Storing into the view faults.
	Mapping() []byte

	// Read fills p with the bytes at off.
	Read(off Off, p []byte) error

	// Write stores p at off. The caller may reuse p when it returns.
	Write(off Off, p []byte) error

	// Fence returns nil once everything is durable that any goroutine had written before the call;
	// see above for what "before" means.
	Fence() error

	// Discard gives the blocks behind [off, off+n) back to the provider of the memory, where that
	// is possible. The range then reads as zero or as before. It must be made usable with Allocate
	// before it is written again.
	Discard(off Off, n int64) error

	// Allocate makes a discarded range writable again. When it returns nil, the range has blocks.
	Allocate(off Off, n int64) error

	// Close releases the device. It does not fence. A second call returns nil.
	Close() error
}

// A BatchReader is a device on which a batch of reads is faster than single reads. It is optional:
// callers that read several pages use a type assertion, or call [ReadPages].
type BatchReader interface {
	// ReadBatch reads all pages of reqs, in any order, and returns when all have been tried. It
	// sets the Err of each request, and returns the first of these errors.
	ReadBatch(reqs []PageRead) error
}

// A DataSeeker is a device that knows which ranges may hold bytes other than zero. It is optional.
type DataSeeker interface {
	// NextData returns the first range at or after off that may hold bytes other than zero. It
	// returns io.EOF if there is none, and errors.ErrUnsupported if the device cannot tell.
	NextData(off Off) (from, to Off, err error)
}

// PageRead is a request for one page. Buf holds at least PageBytes and belongs to the reader until
// the call returns. If Buf is aligned to PageBytes in memory, as frames are, the device makes no
// extra copy.
type PageRead struct {
	Page PageID
	Buf  []byte
	Err  error // set by the device
}

// check returns an error if r cannot be read from a device of size bytes.
func (r *PageRead) check(size int64) error {
	if len(r.Buf) < PageBytes {
		return fmt.Errorf("nvmap: read of page %d into %d bytes, less than a page", r.Page, len(r.Buf))
	}
	if uint64(r.Page) >= uint64(size)/PageBytes {
		return fmt.Errorf("nvmap: read of page %d is outside the device (%d bytes)", r.Page, size)
	}
	return nil
}

// ReadPages reads the pages of reqs from d, in one batch if d is a BatchReader. It sets the Err of
// each request and returns the first error.
func ReadPages(d Device, reqs []PageRead) error {
	if b, ok := d.(BatchReader); ok {
		return b.ReadBatch(reqs)
	}
	var first error
	for i := range reqs {
		r := &reqs[i]
		if r.Err = r.check(d.Size()); r.Err == nil {
			r.Err = d.Read(r.Page.Off(), r.Buf[:PageBytes])
		}
		if r.Err != nil && first == nil {
			first = r.Err
		}
	}
	return first
}

// Info describes a device and its promises.
type Info struct {
	Kind     string `json:"kind"`                 // "shm", "file", "dax", "sim(mem)", ...
	Path     string `json:"path,omitempty"`       // as given to Open
	Why      string `json:"why"`                  // why this kind was chosen
	Mapped   bool   `json:"mapped"`               // the CPU reads it in place, through Mapping
	Volatile bool   `json:"volatile"`             // a power failure loses the contents, or nothing promises that they stay
	Domain   string `json:"domain"`               // how far a fenced byte has travelled, as text
	Mover    string `json:"mover"`                // how bytes reach the medium: "nt", "store+clwb", "pwrite", "copy", ...
	Unit     int    `json:"write_unit"`           // smallest efficient write, bytes
	Sector   int    `json:"atomic_unit"`          // the medium writes whole units of this size: bytes beside a write depend on it
	MaxBytes int64  `json:"max_bytes"`            // the size that it can grow to
	Scant    bool   `json:"scant,omitempty"`      // MaxBytes is smaller than asked for or than the default: the process has reserved much address space
	Note     string `json:"note,omitempty"`       // a limit that the user should know
	Protect  string `json:"protection,omitempty"` // how stray stores are kept out, as text
}

// These errors of devices and maps are for errors.Is.
var (
	ErrFull       = errors.New("nvkv: no space left")
	ErrLocked     = errors.New("nvkv: locked by another user")
	ErrMediaFault = errors.New("nvkv: media fault")
	ErrClosed     = errors.New("nvkv: closed")
	ErrReadOnly   = errors.New("nvkv: read-only")
)

// FaultError is a failed access to the medium. It unwraps to ErrMediaFault and, where the operating
// system gave an error, to that error.
type FaultError struct {
	Off Off
	Op  string // "read", "write", "fence", "map"
	Err error  // may be nil
}

func (e *FaultError) Error() string {
	if e.Err == nil {
		return fmt.Sprintf("nvkv: media fault: %s at %#x", e.Op, uint64(e.Off))
	}
	return fmt.Sprintf("nvkv: media fault: %s at %#x: %v", e.Op, uint64(e.Off), e.Err)
}

func (e *FaultError) Unwrap() []error {
	if e.Err == nil {
		return []error{ErrMediaFault}
	}
	return []error{ErrMediaFault, e.Err}
}
