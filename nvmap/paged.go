package nvmap

import "log/slog"

// PagedOptions are choices for OpenPaged. nil means all defaults.
type PagedOptions struct {
	// Device says how the device is opened. The process that serves faults opens it, so Kind names
	// a kind of this package, or one that the program of Pager has registered. Kind "mem" is not
	// possible. LockTimeout helps a program that starts soon after another one was killed: the
	// pager of the dead one keeps the lock until it has written back.
	Device OpenOptions

	// CacheBytes bounds the DRAM of pages that are present, in bytes. It is at least 256 KiB. 0: 64
	// MiB. The pager uses up to 8 MiB more for transfers.
	CacheBytes int64

	// MaxBytes is the size to which the map can grow, in address space. 0: Device.MaxBytes, or 1
	// TiB, or less where the process has reserved much.
	MaxBytes int64

	// Policy names the policy that chooses the pages to evict, as NewPolicy knows it, or one that
	// the program of Pager has registered. "": DefaultPolicy.
	Policy string

	// Pager is the command of a program that registers devices or policies and calls ServePager. It
	// serves the faults instead of this program's own binary. Its first element is found as
	// exec.Command does.
	Pager []string

	// Logger takes the events of the pager: that it was started again, that it cannot reach the
	// device, or why a page could not be brought in. nil: slog.Default().
	Logger *slog.Logger

	// NoSampling switches the rounds off in which pages are taken out of the page tables to see
	// whether they are used again. A page then counts as used when it is first stored to, and the
	// policy knows little more than the order in which pages came.
	NoSampling bool
}

// Advice says how a range will be used.
type Advice int

// These are the kinds of advice. AdviseNormal, AdviseSequential and AdviseRandom hold until further
// advice for the range.
const (
	AdviseNormal     Advice = iota // read ahead once faults are seen in order
	AdviseSequential               // read ahead from the first fault on
	AdviseRandom                   // never read ahead
	AdviseWillNeed                 // bring pages in now, as far as half of the cache goes
	AdviseDontNeed                 // write back what was stored, and let the pages go
)

// PagedStats count since OpenPaged. A pager that was started again goes on counting.
type PagedStats struct {
	Missing    uint64 // faults on pages that were not present
	Stores     uint64 // faults of the first store to a clean page
	Minor      uint64 // faults on pages that were present, but taken out of the page tables
	Reads      uint64 // pages read from the device
	ReadAhead  uint64 // of these, before they were asked for
	Evictions  uint64 // pages that left
	WriteBacks uint64 // pages written to the device
	Syncs      uint64
	Sampled    uint64 // pages taken out of the page tables to see their use
	Poisoned   uint64 // faults that ended in an error
	Waits      uint64 // faults that waited for memory
	Restarts   uint64 // pagers that were started after the first

	ResidentBytes    int64 // pages present, and on their way in; never above the bound
	ResidentMaxBytes int64 // the most that were
	DirtyBytes       int64 // pages with bytes that the device does not have
}

const (
	pagedCacheDefault = 64 << 20
	pagedCacheLeast   = 256 << 10
)
