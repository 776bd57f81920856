package nvkvraft

import (
	"io/fs"
	"log/slog"
	"time"

	"github.com/hashicorp/go-metrics"
	"nvkv/kv"
)

// Options of Open. The zero value and nil mean all defaults.
type Options struct {
	// Device forces a kind of device: see kv.Options. "" detects it from the path.
	Device string

	// ReadOnly opens the store for reading: what writes fails with kv.ErrReadOnly.
	ReadOnly bool

	// NoSync leaves out the fence of each write: a crash then loses the newest entries. Raft
	// counts on entries that it stored, so a cluster may use it only where it can lose a whole
	// node at each crash and have it join again, emptied. Sync makes what was written durable.
	NoSync bool

	// MaxBytes, CacheBytes and CheckpointBytes bound the store, its pages in memory and what a
	// recovery reads: see kv.Options.
	MaxBytes        int64
	CacheBytes      int64
	CheckpointBytes int64

	// PrewriteBytes is how much free space Open writes where the store has less than half of it,
	// so that appends find blocks that the file system knows: up to 255 MiB. 0: 16 MiB on plain
	// files, which takes a fraction of a second, and none elsewhere. Less than 0: none.
	PrewriteBytes int64

	// FileMode is the mode of a file that is made; 0: 0600.
	FileMode fs.FileMode

	// LockTimeout is how long Open waits for another owner of the store; 0: not at all.
	LockTimeout time.Duration

	// Metrics takes the measurements of each call; nil: the global ones of go-metrics.
	// NoMetrics turns them off.
	Metrics   *metrics.Metrics
	NoMetrics bool

	// Logger takes what happens in the background; nil: nothing is logged.
	Logger *slog.Logger
}

// store returns the options of the kv store beneath. The space of deleted entries stays in the
// file, where the next entries use it: blocks that a file already has make an append cheaper
// than blocks that the file system must find.
func (o *Options) store() *kv.Options {
	k := &kv.Options{
		Device: o.Device, ReadOnly: o.ReadOnly, MaxBytes: o.MaxBytes, CacheBytes: o.CacheBytes,
		CheckpointBytes: o.CheckpointBytes, FileMode: o.FileMode, LockTimeout: o.LockTimeout,
		Logger: o.Logger, EvacuateBytes: kv.NoEvacuation,
	}
	if o.NoSync {
		k.Durability = kv.Relaxed
	}
	return k
}
