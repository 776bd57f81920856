package bbolt

import (
	"fmt"
	"os"
	"time"
)

// FreelistType names how bbolt keeps its list of free pages. There is none here.
type FreelistType string

const (
	// FreelistArrayType is accepted and changes nothing.
	FreelistArrayType = FreelistType("array")
	// FreelistMapType is accepted and changes nothing.
	FreelistMapType = FreelistType("hashmap")
)

// Options of Open.
type Options struct {
	// Timeout is how long Open waits for another owner of the file to close it; 0:
	// for ever.
	Timeout time.Duration

	// NoGrowSync is the first value of DB.NoGrowSync.
	NoGrowSync bool

	// NoFreelistSync is the first value of DB.NoFreelistSync.
	NoFreelistSync bool

	// PreLoadFreelist is the first value of DB.PreLoadFreelist.
	PreLoadFreelist bool

	// FreelistType is the first value of DB.FreelistType.
	FreelistType FreelistType

	// ReadOnly opens with a shared lock: several processes may read a file that
	// nobody writes.
	ReadOnly bool

	// MmapFlags is the first value of DB.MmapFlags.
	MmapFlags int

	// InitialMmapSize is accepted and changes nothing: no transaction waits for
	// address space, however large the file grows.
	InitialMmapSize int

	// PageSize is the size of the pages that Tx.WriteTo writes and that Info and the
	// statistics count in, of a new database: a power of two from 1 KiB to 16 MiB. Any
	// other, and 0, is the machine's.
	PageSize int

	// MaxSize is the first value of DB.MaxSize. While the database is open, the file is made
	// no longer than that, half as much again and 1.2 MiB: deletes need room in a full one.
	MaxSize int

	// NoSync is the first value of DB.NoSync.
	NoSync bool

	// OpenFile opens the file, to which Open then goes by its name; nil: os.OpenFile. It
	// serves Tx.CopyFile too.
	OpenFile func(string, int, os.FileMode) (*os.File, error)

	// Mlock is the first value of DB.Mlock.
	Mlock bool

	// Logger takes what the database has to say; nil: nothing is said.
	Logger Logger

	// NoStatistics makes DB.Stats return nothing.
	NoStatistics bool

	// RefuseImport makes Open fail with ErrInvalid where the file is bbolt's own,
	// instead of importing it; so does the environment variable NVKV_BBOLT_IMPORT
	// with the value "refuse". bbolt has no such option.
	RefuseImport bool
}

func (o *Options) String() string {
	if o == nil {
		return "{}"
	}
	return fmt.Sprintf("{Timeout: %s, NoGrowSync: %t, NoFreelistSync: %t, PreLoadFreelist: %t, FreelistType: %s, ReadOnly: %t, MmapFlags: %x, InitialMmapSize: %d, PageSize: %d, MaxSize: %d, NoSync: %t, OpenFile: %t, Mlock: %t, Logger: %t, NoStatistics: %t, RefuseImport: %t}",
		o.Timeout, o.NoGrowSync, o.NoFreelistSync, o.PreLoadFreelist, o.FreelistType, o.ReadOnly, o.MmapFlags, o.InitialMmapSize, o.PageSize, o.MaxSize, o.NoSync,
		o.OpenFile != nil, o.Mlock, o.Logger != nil, o.NoStatistics, o.RefuseImport)
}

// DefaultOptions is what Open takes where it is given nil.
var DefaultOptions = &Options{FreelistType: FreelistArrayType}
