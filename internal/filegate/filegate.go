// Package filegate lets tests say how the system calls end by which package
// nvmap reaches a file: with an error, after a part of the bytes, well, or not at all.
//
// A device asks the gate of its file, if a test has set one for the path before
// the device was opened, before each of these calls. Without one it compares a
// pointer with nil, once a system call.
package filegate

import (
	"errors"
	"fmt"
	"sync"
)

// Op is a kind of system call.
type Op string

const (
	Read     Op = "read"  // pread, preadv, and their like of io_uring
	Write    Op = "write" // pwrite, pwritev, and their like of io_uring
	Sync     Op = "sync"  // fdatasync, fsync
	SyncDir  Op = "sync of the directory"
	Allocate Op = "allocate" // fallocate that gives blocks
	Punch    Op = "punch"    // fallocate that takes them
	Resize   Op = "resize"   // ftruncate
)

// Call is a system call that is about to be made.
type Call struct {
	Op  Op
	Off int64
	N   int64 // bytes
}

func (c Call) String() string { return fmt.Sprintf("%s of %d bytes at %#x", c.Op, c.N, c.Off) }

// A Gate is asked before a call. It returns how many of the bytes may pass, and
// with what error the call then ends; a call that moves no bytes is not made if
// there is an error. Fewer bytes without an error are a short transfer.
//
// It may be called from several goroutines at once.
type Gate func(Call) (pass int64, err error)

// ErrLost is returned by a gate that has a call left out as if the program did not
// make it: nothing passes, and whoever asked goes on.
var ErrLost = errors.New("filegate: lost")

var gates struct {
	sync.Mutex
	of map[string]Gate // by path, as given to whoever opens
}

// Set makes g the gate of the file at path, for devices that are opened from now
// on; nil: it has none any more.
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

// Do makes a call that moves no bytes, if it may be made.
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

// Passes returns how many of the bytes of a call may pass, and with what error
// it then ends.
func (g Gate) Passes(op Op, off, n int64) (int64, error) {
	if g == nil {
		return n, nil
	}
	pass, err := g(Call{op, off, n})
	return min(max(pass, 0), n), err
}
