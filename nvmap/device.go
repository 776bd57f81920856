package nvmap

import (
	"errors"
	"fmt"
)

// PageBytes is the unit of mapping, caching and index storage, in bytes.
const PageBytes = 4096

// Off is a byte offset on a device. Zero is nil on the medium: it lies in the
// superblock, where nothing else is ever stored.
type Off uint64

// PageID numbers the pages of a device: page p covers the bytes
// [p*PageBytes, (p+1)*PageBytes).
type PageID uint64

// Off returns the offset of the first byte of p.
func (p PageID) Off() Off { return Off(p) * PageBytes }

// Page returns the page that holds the byte at o.
func (o Off) Page() PageID { return PageID(o / PageBytes) }

// A Device is where bytes persist. It is the only way from this module to a
// medium, which makes every kind, and the crash simulator, interchangeable.
//
// Write then Fence is the whole persistence model. A write may tear at 8-byte
// granularity and reach the medium in any order, or not at all, until a Fence
// that began after it returned; once that Fence has returned nil the bytes
// stay. Bytes beside a write are never changed by it.
//
// A Fence covers what the calling goroutine wrote. A goroutine that writes on
// behalf of another fences before it reports.
//
// Reads, the mapping and Size may be used from any number of goroutines, also
// beside one that writes; a read that overlaps a write in progress returns a
// mixture of old and new 8-byte words. Write, Fence, Grow and Discard may be
// called from several goroutines as long as the ranges they name do not
// overlap; Grow and Close only from one at a time.
type Device interface {
	// Info describes the device and what it promises.
	Info() Info

	// Size returns the bytes that are usable now.
	Size() int64

	// Grow makes at least size bytes usable and durable as a size: blocks are
	// allocated on the medium before the call returns, so that a full medium
	// is an error here (ErrFull) and never a fault later. New bytes read as
	// zero. A failed Grow leaves the device as it was.
	Grow(size int64) error

	// Mapping returns a read-only view of the device, or nil where the CPU
	// cannot map it or only badly. Its length is the address space reserved
	// (Info.MaxBytes); bytes at and beyond Size must not be touched. The
	// address never changes while the device is open. Writing to it faults.
	Mapping() []byte

	// Read fills p with the bytes at off.
	Read(off Off, p []byte) error

	// Write stores p at off. The caller may reuse p when it returns.
	Write(off Off, p []byte) error

	// Fence returns nil once everything written before it is durable.
	Fence() error

	// Discard gives the blocks behind [off, off+n) back to whoever provides
	// them, where that is possible; the range reads as zero or as before, and
	// must be made usable again with Allocate before it is written.
	Discard(off Off, n int64) error

	// Allocate makes a discarded range writable again: it has blocks when the
	// call returns nil.
	Allocate(off Off, n int64) error

	// Close releases the device. It does not fence.
	Close() error
}

// A BatchReader is a device on which many reads at once are faster than one
// after the other. It is optional: callers that have several pages to read ask
// with a type assertion, or call [ReadPages].
type BatchReader interface {
	// ReadBatch reads all pages of reqs, in any order, and returns when it is
	// through with all of them. What went wrong is in the Err of each, and the
	// first of these errors is returned.
	ReadBatch(reqs []PageRead) error
}

// PageRead is one page that is wanted. Buf holds PageBytes and belongs to the
// reader until the call returns; where it begins at a multiple of PageBytes in
// memory, as frames do, no copy is made.
type PageRead struct {
	Page PageID
	Buf  []byte
	Err  error // set by the device
}

// check says why r cannot be read from a device of size bytes.
func (r *PageRead) check(size int64) error {
	if len(r.Buf) < PageBytes {
		return fmt.Errorf("nvmap: read of page %d into %d bytes, less than a page", r.Page, len(r.Buf))
	}
	if uint64(r.Page) >= uint64(size)/PageBytes {
		return fmt.Errorf("nvmap: read of page %d is outside the device (%d bytes)", r.Page, size)
	}
	return nil
}

// ReadPages reads the pages of reqs from d, together where d can.
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

// Info says what a device is and what it promises.
type Info struct {
	Kind     string `json:"kind"`                 // "shm", "file", "dax", "sim(mem)", ...
	Path     string `json:"path,omitempty"`       // as given to Open
	Why      string `json:"why"`                  // why this kind was chosen
	Mapped   bool   `json:"mapped"`               // the CPU reads it in place
	Volatile bool   `json:"volatile"`             // contents are gone after a power failure, or nothing promises that they stay
	Domain   string `json:"domain"`               // how far a fenced byte has travelled, in words
	Mover    string `json:"mover"`                // how bytes travel: "nt", "store+clwb", "pwrite", "copy", ...
	Unit     int    `json:"write_unit"`           // smallest efficient write, bytes
	Sector   int    `json:"atomic_unit"`          // bytes beside a write within this unit rely on the medium
	MaxBytes int64  `json:"max_bytes"`            // the size it can grow to
	Note     string `json:"note,omitempty"`       // an honest limit worth telling the user
	Protect  string `json:"protection,omitempty"` // how stray stores are kept out
}

// Errors of devices and maps, for errors.Is.
var (
	ErrFull       = errors.New("nvkv: no space left")
	ErrLocked     = errors.New("nvkv: locked by another user")
	ErrMediaFault = errors.New("nvkv: media fault")
	ErrClosed     = errors.New("nvkv: closed")
	ErrReadOnly   = errors.New("nvkv: read-only")
)

// FaultError is a failed access to the medium. It unwraps to ErrMediaFault
// and, where the operating system gave one, to its error.
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
