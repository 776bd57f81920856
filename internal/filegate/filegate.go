// Package filegate lets tests decide how the system calls end with which package nvmap accesses a
// file: with success, with an error, or after a part of the bytes.
//
// A device calls the gate of its file before each of these calls, if a test has set one for the
// path before the device was opened. Without a gate a device compares a pointer with nil at each
// system call.
package filegate

import (
	"errors"
	"fmt"
	"sync"
)

// Op is a kind of system call.
type Op string

const (
	Read     Op = "read"  // pread, preadv, and their io_uring equivalents
	Write    Op = "write" // pwrite, pwritev, and their io_uring equivalents
	Sync     Op = "sync"  // fdatasync, fsync
	SyncDir  Op = "sync of the directory"
	Allocate Op = "allocate" // fallocate that allocates blocks
	Punch    Op = "punch"    // fallocate that frees blocks
	Resize   Op = "resize"   // ftruncate
)

// Call is a system call that is about to be made.
type Call struct {
	Op  Op
	Off int64
	N   int64 // bytes
}

func (c Call) String() string { return fmt.Sprintf("%s of %d bytes at %#x", c.Op, c.N, c.Off) }

// A Gate is called before a system call. It returns the number of bytes that may pass, and the
// error with which the call then ends. A call that moves no bytes is not made if there is an error.
// Fewer bytes without an error are a short transfer.
//
// It may be called from several goroutines at once.
type Gate func(Call) (pass int64, err error)

// ErrLost is the error with which a gate makes a call disappear: nothing passes, and the device
// continues as if the call had succeeded.
var ErrLost = errors.New("filegate: lost")

var gates struct {
	sync.Mutex
	of map[string]Gate // by path, as given to OpenDevice
}

// Set makes g the gate of the file at path, for devices that are opened from now on. nil removes
// the gate.
func Set(path string, g Gate) {
	gates.Lock()
	defer gates.Unlock()
	if gates.of == nil {
		gates.of = map[string]Gate{}
	}
	if g == nil {
		delete(gates.of, path)
		return
	}
	gates.of[path] = g
}

// Of returns the gate of the file at path, or nil.
func Of(path string) Gate {
	gates.Lock()
	defer gates.Unlock()
	return gates.of[path]
}

// Do makes a call that moves no bytes, if the gate permits it.
func (g Gate) Do(op Op, off, n int64, call func() error) error {
	if g != nil {
		if _, err := g(Call{op, off, n}); err == ErrLost {
			return nil
		} else if err != nil {
			return err
		}
	}
	return call()
}

// Passes returns the number of bytes of a call that may pass, and the error with which it then
// ends.
func (g Gate) Passes(op Op, off, n int64) (int64, error) {
	if g == nil {
		return n, nil
	}
	pass, err := g(Call{op, off, n})
	return min(max(pass, 0), n), err
}
