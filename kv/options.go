package kv

import (
	"cmp"
	"fmt"
	"io/fs"
	"log/slog"
	"time"

	"nvkv/alloc"
	"nvkv/nvmap"
)

// Options of Open. The zero value and nil mean all defaults.
type Options struct {
	// Device forces a kind: "file", "shm" (tmpfs, hugetlbfs), "dax" (file on a DAX
	// file system), "devdax" (/dev/daxX.Y), "pcie" (a PCI device's memory in
	// sysfs), "block" (disk or file without the page cache) or "mem". "" detects
	// it from the path: see nvmap.OpenDevice.
	Device string

	// ReadOnly opens with a shared lock: several processes may read a store
	// that nobody writes. A store that needs recovery is recovered in DRAM.
	ReadOnly bool

	// WriteProtect makes a stray store through any slice that the store returns,
	// or past its end, a fault instead of damage: readers' mapping is read-only,
	// and the one that stores go through is behind a memory protection key where
	// the machine has them. Index pages that have a copy in DRAM are not covered,
	// nor are devices that are not mapped. nil: on, as far as the device can;
	// true: on, or opening fails; false: off. The device's Info says what is in
	// force.
	WriteProtect *bool

	// MaxBytes is the size up to which the store may grow, in bytes: it never has
	// more, and less by a slab at most. Address space is reserved for it, up to
	// twice as much. 0: 1 TiB, and less, down to 16 GiB, where a process has many
	// stores open: together they may reserve 64 TiB, and closing one gives its share
	// back. DB.Info says what was granted, and ErrFull when it was that. A store that
	// is larger already stays as it is, and a device of fixed size is its own bound.
	// Less than a store has when it is made is an error that names the least.
	MaxBytes int64

	// CheckpointBytes is how much may be written between two checkpoints, in
	// bytes of records. It bounds what a recovery reads. 0: 64 MiB.
	CheckpointBytes int64

	// CacheBytes bounds the DRAM that index pages take, and on devices that are
	// not mapped the pages of records too, in bytes: 4 MiB or more. 0: 1 GiB. On
	// mapped devices clean index pages are read in place and need none; what has
	// changed since the last checkpoint does, so a small bound makes checkpoints
	// more frequent. A store that needs recovery and is opened read-only may
	// exceed it, by what it recovers.
	CacheBytes int64

	// CachePolicy names the policy that chooses which pages stay in DRAM: see
	// nvmap.NewPolicy. "": nvmap.DefaultPolicy.
	CachePolicy string

	// Durability says when a write is durable; the default is Sync: when its call
	// returns.
	Durability Durability

	// EvacuateBytes is how many bytes a second may be moved in the background to
	// empty slabs of which little is used, so that their space can be used for
	// other sizes and goes back to the file system. 0: 64 MiB. Less than 0:
	// nothing is moved or given back but by Compact, by Close and by a store that
	// is full.
	EvacuateBytes int64

	// FileMode is what a file that is made may be used for and by whom, where the
	// process's mask leaves it; bits of permission only. 0: 0600. Restore from a file
	// gives its copy that file's mode where this is 0, and lets its owner read and write.
	FileMode fs.FileMode

	// LockTimeout is how long Open waits for another owner of the store to close it;
	// 0: not at all. The lock of an owner that was killed is waited for in any case,
	// for a few seconds, which the kernel may need to let it go.
	LockTimeout time.Duration

	// Clock is the wall clock by which values expire; nil: time.Now. What it shows
	// before 1970 counts as 1970 and beyond 2262 as 2262. It is called by many
	// goroutines, under the store's locks, and must not call the DB.
	Clock func() time.Time

	// Logger takes what happens in the background; nil: nothing is logged. Its handler
	// may use the DB, but for Close; what that would log is left out.
	Logger *slog.Logger

	// Progress, if not nil, is told now and then how far a Backup, Restore or
	// Compact is, and once at its end, by the goroutine that runs it. It may use the
	// DB, but for Close of one that Compact works on.
	Progress func(Progress)

	// PoisonSlices is for testing programs that use transactions. Slices that these
	// give out are copies then, and are overwritten with 0xdb as soon as they are
	// not valid any more: those of Get when the Tx ends, those of cursors and
	// iterators when they move. A program that keeps one finds out at once, under
	// the race detector by name. It costs a copy of each.
	PoisonSlices bool

	// SlabBytes is the unit of space of a new store: a power of two from 4 KiB
	// to 1 MiB; 0: 64 KiB. An existing store keeps what it has.
	SlabBytes int

	renewAt      uint64        // see defaultRenewAt; tests lower it
	privateFrom  int           // see defaultPrivateFrom; tests lower it
	groupBytes   int64         // see defaultGroupBytes; tests lower it
	listLevels   int           // that a run list has at least: tests raise it
	noGroupTimer bool          // groups are closed by size, Sync and checkpoints alone
	tidySlack    int64         // see the constant; tests lower it
	sweepEvery   time.Duration // see the constant; tests lower it
	moveTogether bool          // see mover
	lateFrom     int           // see defaultLateFrom; tests lower it
	holdReplay   chan struct{} // a late replay waits for it to be closed, if it is not nil: for tests
	broken       rules         // rules that a test has switched off
	unfinished   bool          // the store counts as absent until finish: for Restore
	inVain       func()        // called, if not nil, before the device is closed of a store that does not open
	early        bool          // each commit evicts all frames first: for tests
	reached      func(instant) // is told of instants, if it is not nil: for tests
}

// instant is where a test wants to look.
type instant int

const atBuilt instant = iota // a large commit is fenced and built, and not shown yet

func (o *Options) reach(i instant) {
	if o.reached != nil {
		o.reached(i)
	}
}

// DefaultCheckpointBytes is Options.CheckpointBytes when that is 0.
const DefaultCheckpointBytes = 64 << 20

// DefaultEvacuateBytes is Options.EvacuateBytes when that is 0.
const DefaultEvacuateBytes = 64 << 20

// withDefaults returns a complete copy.
func (o *Options) withDefaults() Options {
	var c Options
	if o != nil {
		c = *o
	}
	c.CheckpointBytes = cmp.Or(c.CheckpointBytes, DefaultCheckpointBytes)
	c.lateFrom = cmp.Or(c.lateFrom, defaultLateFrom)
	c.CacheBytes = cmp.Or(c.CacheBytes, DefaultCacheBytes)
	c.groupBytes = cmp.Or(c.groupBytes, defaultGroupBytes)
	c.EvacuateBytes = cmp.Or(c.EvacuateBytes, DefaultEvacuateBytes)
	c.tidySlack = cmp.Or(c.tidySlack, tidySlack)
	c.sweepEvery = cmp.Or(c.sweepEvery, sweepEvery)
	c.renewAt = cmp.Or(c.renewAt, defaultRenewAt)
	c.privateFrom = cmp.Or(c.privateFrom, defaultPrivateFrom)
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

func (o *Options) validate() error {
	switch {
	case o.CheckpointBytes < 0:
		return fmt.Errorf("nvkv: option CheckpointBytes is %d, less than nothing", o.CheckpointBytes)
	case o.CacheBytes < MinCacheBytes:
		return fmt.Errorf("nvkv: option CacheBytes is %d, less than the least, %d", o.CacheBytes, MinCacheBytes)
	case o.Durability != Sync && o.Durability != Relaxed:
		return fmt.Errorf("nvkv: option Durability is %d, neither Sync nor Relaxed", o.Durability)
	case o.MaxBytes < 0:
		return fmt.Errorf("nvkv: option MaxBytes is %d, less than nothing", o.MaxBytes)
	case o.LockTimeout < 0:
		return fmt.Errorf("nvkv: option LockTimeout is %v, less than nothing", o.LockTimeout)
	case o.FileMode&^fs.ModePerm != 0:
		return fmt.Errorf("nvkv: option FileMode is %v, more than bits of permission", o.FileMode)
	}
	if least, err := alloc.LeastBytes(o.SlabBytes); err != nil {
		return fmt.Errorf("nvkv: option SlabBytes: %w", err)
	} else if o.MaxBytes > 0 && o.MaxBytes < least {
		return fmt.Errorf("nvkv: option MaxBytes is %d, less than the %d bytes of the smallest store", o.MaxBytes, least)
	}
	if _, err := nvmap.NewPolicy(o.CachePolicy); err != nil {
		return fmt.Errorf("nvkv: option CachePolicy: %w", err)
	}
	return nil
}
