package kv

import (
	"cmp"
	"fmt"
	"io/fs"
	"log/slog"
	"math"
	"time"

	"nvkv/alloc"
	"nvkv/nvmap"
)

// Options of Open. The zero value and nil mean all defaults.
type Options struct {
	// Device forces a kind: "file", "shm" (tmpfs, hugetlbfs), "dax" (file on a DAX file system),
	// "devdax" (/dev/daxX.Y), "pcie" (a PCI device's memory in sysfs), "block" (disk or file
	// without the page cache) or "mem". "" detects the kind from the path: see nvmap.OpenDevice.
	Device string

	// ReadOnly opens with a shared lock: several processes may read a store if none writes it. A
	// store that needs recovery is recovered in DRAM.
	ReadOnly bool

	// WriteProtect turns a stray store through a slice that the store returned, or past its end,
	// into a fault instead of damage: the readers' mapping is read-only, and the writers' mapping
	// is behind a memory protection key on machines that have them. It does not cover index pages
	// with a copy in DRAM, nor devices that are not mapped. nil: on, as far as the device can;
	// true: on, or opening fails; false: off. The Info of the device says what is in force.
	WriteProtect *bool

	// MaxBytes is the size in bytes up to which the store may grow. The store never exceeds it, and
	// stays below it by a slab at most. Address space is reserved for it, up to twice as much. 0: 1
	// TiB, or less, down to 16 GiB, if the process has many stores open: together they may reserve
	// 64 TiB, and closing one returns its share. DB.Info says what was granted, and so does ErrFull
	// if that was the limit. A store that is larger already keeps its size, and a device of fixed
	// size is its own limit. A value below the size of a new store is an error, which names the
	// least.
	MaxBytes int64

	// CheckpointBytes is how many bytes of records may be written between two checkpoints. It
	// bounds the bytes that a recovery reads. 0: 64 MiB or twice the size of the index, whichever
	// is more, but not more than 1 GiB. A checkpoint writes the changed part of the index, so with
	// a fixed interval a larger store would write more bytes for each byte of the user.
	CheckpointBytes int64

	// CacheBytes bounds the DRAM for index pages and, on devices that are not mapped, for pages of
	// records, in bytes. The least is 4 MiB. 0: 1 GiB. On mapped devices clean index pages are read
	// in place and take none of it; pages changed since the last checkpoint do, so a small bound
	// makes checkpoints more frequent. A store that needs recovery and is opened read-only may
	// exceed the bound by the pages that it recovers.
	CacheBytes int64

	// HashBytes bounds the DRAM for the hash table, in bytes. The table answers most Get, GetAppend,
	// Has and GetMany without a search of the index. It has 64 bytes for each five keys at most, and
	// for each two or three as a rule, so it takes 16 MiB for a million keys; with a smaller bound
	// it answers in part. It is filled by reads and writes, and on mapped devices by a walk over the
	// index in the background, which the first few hundred reads start. 0: 64 MiB. NoHash, or any
	// negative value: no table.
	HashBytes int64

	// CachePolicy names the policy that chooses which pages stay in DRAM: see
	// nvmap.NewPolicy. "": nvmap.DefaultPolicy.
	CachePolicy string

	// Durability says when a write is durable. The default is Sync: when its call returns.
	Durability Durability

	// EvacuateBytes is how many bytes a second the background may move in order to empty slabs that
	// are little used, so that their space can be used for other sizes and returns to the file
	// system. 0: 64 MiB. NoEvacuation, or any negative value: only Compact, Close and a full store
	// move data or give space back.
	EvacuateBytes int64

	// FileMode is the mode of a new file, reduced by the process's umask. Only permission bits are
	// allowed. 0: 0600. If it is 0, Restore from a file gives its copy the mode of that file, and
	// lets the owner read and write.
	FileMode fs.FileMode

	// LockTimeout is how long Open waits for another owner to close the store. 0: it does not wait.
	// In any case Open waits a few seconds for the lock of a process that was killed, because the
	// kernel may take that long to release it.
	LockTimeout time.Duration

	// Socket lets the store answer other processes of the same user while it is open: the command
	// nvkv then shows counters and snapshots, reads, backs up, checks and compacts. "": nothing
	// answers. AutoSocket, "auto": a unix socket beside the store, at its path with SocketSuffix.
	// Anything else: the path of the socket, at most 107 bytes long on Linux. The socket has mode
	// 0600. Close cancels the answers under way and removes it; one that a killed process left is
	// replaced. An answer runs beside the owner's calls and costs what the same call of the owner
	// would; Begin and View also record their caller, for DB.Snapshots. A store that is opened
	// read-only takes no Socket, because other processes can open it too. Restore and Salvage ignore it.
	Socket string

	// Clock is the wall clock by which values expire. nil: time.Now. Times before 1970 count as
	// 1970, times after 2262 as 2262. It is called by many goroutines, under the store's locks, and
	// must not call the DB.
	Clock func() time.Time

	// Logger gets the store's events. nil: nothing is logged. Its handler may use the DB, except
	// Close; records that this use produces are dropped. The messages are
	//
	//   - "recovery" (Info): an opening after a kill has ended; records, void, scanned_bytes, damage.
	//   - "recovery met damage" (Warn): once for each place.
	//   - "checkpoint" (Debug): one was taken. At level Error one failed, with the error.
	//   - "growth" (Info): from_bytes, to_bytes; written with the next checkpoint, or within a minute.
	//   - "full" (Warn): calls ended with ErrFull; how many were refused since the last message,
	//     which comes once a minute at most.
	//   - "failed" (Error): the store takes no more writes, with the error that ErrFailed wraps.
	//
	// Others tell of background work that did not succeed and is tried again.
	Logger *slog.Logger

	// Progress, if not nil, is called at intervals during a Backup, Restore or Compact, and once at
	// its end, by the goroutine that runs it. It may use the DB, except for a Close during Compact.
	Progress func(Progress)

	// TimeOneIn is how many calls share one timed call, for DB.Latencies: 0 times none, 1 all, 16 one
	// in 16, drawn at random. The draw costs each call about 12 ns, a timed one some 60 ns more. 0
	// costs nothing that can be measured.
	TimeOneIn int

	// PoisonSlices is for testing programs that use transactions. Transactions then return copies,
	// which are overwritten with 0xdb as soon as they are no longer valid: the slices of Get when
	// the Tx ends, those of cursors and iterators when they move. So a program that keeps a slice
	// fails at once, and the race detector names the place. Each slice costs a copy. DB.OpenTx lists
	// the open transactions, with the places where they began.
	PoisonSlices bool

	// SlabBytes is the unit of space of a new store: a power of two from 4 KiB to 1 MiB. 0: 64 KiB.
	// An existing store keeps its own.
	SlabBytes int

	checkpointMost int64 // CheckpointBytes of a store with a large index

	renewAt      uint64        // see defaultRenewAt; tests lower it
	privateFrom  int           // see defaultPrivateFrom; tests lower it
	groupBytes   int64         // see defaultGroupBytes; tests lower it
	listLevels   int           // least number of levels of a run list; tests raise it
	noGroupTimer bool          // only size, Sync and checkpoints close groups; for tests
	tidySlack    int64         // see the constant; tests lower it
	sweepEvery   time.Duration // see the constant; tests lower it
	moveTogether bool          // see mover
	lateFrom     int           // see defaultLateFrom; tests lower it
	holdReplay   chan struct{} // if not nil, a late replay waits until it is closed; for tests
	broken       rules         // rules that a test has switched off
	unfinished   bool          // the store counts as absent until Finish; for Restore
	inVain       func()        // if not nil, called before the device is closed if opening fails
	path         string        // of the store, for DB.Path; Open sets it
	early        bool          // each commit evicts all frames first; for tests
	reached      func(instant) // if not nil, called at instants; for tests
}

// instant is a moment in a call at which a test acts.
type instant int

const atBuilt instant = iota // a large commit is fenced and built, but not shown yet

func (o *Options) reach(i instant) {
	if o.reached != nil {
		o.reached(i)
	}
}

// DefaultCheckpointBytes is the least value of Options.CheckpointBytes if that is 0, and
// defaultCheckpointMost the greatest.
const (
	DefaultCheckpointBytes = 64 << 20
	defaultCheckpointMost  = 1 << 30
)

// DefaultHashBytes is the value of Options.HashBytes if that is 0.
const DefaultHashBytes = 64 << 20

// NoHash as Options.HashBytes turns the hash table off.
const NoHash = -1

// NoEvacuation as Options.EvacuateBytes turns evacuation in the background off.
const NoEvacuation = -1

// DefaultEvacuateBytes is the value of Options.EvacuateBytes if that is 0.
const DefaultEvacuateBytes = 64 << 20

// withDefaults returns a copy with all defaults filled in.
func (o *Options) withDefaults() Options {
	var c Options
	if o != nil {
		c = *o
	}
	if c.CheckpointBytes == 0 {
		c.CheckpointBytes, c.checkpointMost = DefaultCheckpointBytes, defaultCheckpointMost
	}
	c.checkpointMost = max(c.checkpointMost, c.CheckpointBytes)
	c.lateFrom = cmp.Or(c.lateFrom, defaultLateFrom)
	c.CacheBytes = cmp.Or(c.CacheBytes, DefaultCacheBytes)
	c.HashBytes = cmp.Or(c.HashBytes, DefaultHashBytes)
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
		return fmt.Errorf("nvkv: option CheckpointBytes is %d, but must not be negative", o.CheckpointBytes)
	case o.CacheBytes < MinCacheBytes:
		return fmt.Errorf("nvkv: option CacheBytes is %d, below the minimum of %d", o.CacheBytes, MinCacheBytes)
	case o.Durability != Sync && o.Durability != Relaxed:
		return fmt.Errorf("nvkv: option Durability is %d, neither Sync nor Relaxed", o.Durability)
	case o.MaxBytes < 0:
		return fmt.Errorf("nvkv: option MaxBytes is %d, but must not be negative", o.MaxBytes)
	case o.TimeOneIn < 0 || o.TimeOneIn > math.MaxInt32:
		return fmt.Errorf("nvkv: option TimeOneIn is %d, but must be between 0 and %d", o.TimeOneIn, math.MaxInt32)
	case o.LockTimeout < 0:
		return fmt.Errorf("nvkv: option LockTimeout is %v, but must not be negative", o.LockTimeout)
	case o.Socket != "" && o.ReadOnly:
		return fmt.Errorf("nvkv: option Socket is %q, but the store is opened read-only: other processes can open it too", o.Socket)
	case o.FileMode&^fs.ModePerm != 0:
		return fmt.Errorf("nvkv: option FileMode is %#o, of which %#o are no permission bits", uint32(o.FileMode), uint32(o.FileMode&^fs.ModePerm))
	}
	if least, err := alloc.LeastBytes(o.SlabBytes); err != nil {
		return fmt.Errorf("nvkv: option SlabBytes: %w", err)
	} else if o.MaxBytes > 0 && o.MaxBytes < least {
		return fmt.Errorf("nvkv: option MaxBytes is %d, below the %d bytes of the smallest store", o.MaxBytes, least)
	}
	if _, err := nvmap.NewPolicy(o.CachePolicy); err != nil {
		return fmt.Errorf("nvkv: option CachePolicy: %w", err)
	}
	return nil
}
