//go:build amd64 || arm64

package paging

import (
	"encoding/json"
	"time"
)

// A Move is the transfer of one page between the medium and memory. Buf has PageBytes and is
// aligned to PageBytes. Err is its outcome.
type Move struct {
	Page uint64
	Buf  []byte
	Err  error
}

// A Medium is where pages lie. All transfers of pages go through Read and Write, many at a time;
// moves that are neighbours in the batch and on the medium have neighbouring buffers wherever that
// is possible. All methods but Close may be called from several goroutines at once. Ranges of
// concurrent transfers do not overlap.
type Medium interface {
	Size() int64
	Grow(size int64) error

	// Read and Write try all moves and set the Err of each.
	Read(moves []Move)
	Write(moves []Move)

	// Settle returns nil once the bytes of all writes that returned before outlive this process.
	Settle() error

	// Fence returns nil once these bytes are durable.
	Fence() error

	Close() error
}

// A Policy chooses the pages to evict. It is called under a lock.
type Policy interface {
	Admit(p uint64, write bool) bool
	Insert(p uint64)
	Remove(p uint64)
	Victims(dst []uint64, n int, touched func(p uint64) bool) []uint64
}

// Config is what the pager needs to know. It lies in shared memory.
type Config struct {
	Base     uint64          // address of the region in the program
	MaxBytes int64           // of the region
	Limit    int64           // pages that may be present
	Policy   string          // name
	Path     string          // of the medium
	Device   json.RawMessage // how to open it; the hooks know
	LockTime time.Duration   // how long the lock of the medium is waited for
	Trip     string          // for tests: "step:n" kills the pager at the n-th time
	NoSample bool            // pages are not unmapped to see their use
}

// Hooks make media and policies from their names.
type Hooks struct {
	// Open opens the medium. hold says that it is opened for its lock only, by the supervisor; else
	// the lock is held already.
	Open func(c *Config, hold bool) (Medium, error)

	Policy func(name string) (Policy, error)

	// Class names the kind of an error, so that it survives the way to the program.
	Class func(error) Failure
}

// Failure is an error on its way to the program.
type Failure struct {
	Text  string
	Class string `json:",omitempty"`
	Off   uint64 `json:",omitempty"`
	Op    string `json:",omitempty"`
}

// message is a control call, its answer, or news.
type message struct {
	Op     string      // "hello", "unmap", "lost", "sync", "grow", "close", "fetch", "drop", "forgive", "advise"
	Seq    uint64      `json:",omitempty"` // of a call and its answer
	Off, N int64       `json:",omitempty"`
	Advice int         `json:",omitempty"`
	Gen    uint64      `json:",omitempty"`
	Err    *Failure    `json:",omitempty"`
	Ranges [][2]uint64 `json:",omitempty"` // byte ranges of the region
}

const messageBytesMax = 64 << 10

// Kinds of advice.
const (
	AdviseNormal = iota
	AdviseSequential
	AdviseRandom
	AdviseWillNeed
	AdviseDontNeed
)

// The descriptors that supervisor and pager inherit.
const (
	fdControl = 3 + iota
	fdFaults
	fdRegion
	fdShared
	fdLife // a pipe: its end tells the pager that the supervisor is gone, which holds the other end
)

// RoleVariable is the environment variable that makes a process a supervisor or a pager.
const RoleVariable = "NVMAP_PAGER"

// Argv0 is the name of a process that is the program's own binary, executed again.
const Argv0 = "nvmap-pager"

const (
	roleSupervisor = "supervisor"
	rolePager      = "pager"
)
