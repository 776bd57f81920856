package nvmap

import (
	"errors"
	"runtime/debug"
)

// errNotThere is the cause of a FaultError that came from a memory fault.
var errNotThere = errors.New("the page cannot be reached: its medium failed, or the file was truncated or has no blocks there")

// addressed is the type of the value with which the runtime panics at a memory fault.
type addressed interface{ Addr() uintptr }

// faulted converts p, which recover returned, into a FaultError if p is a memory fault inside r.
// Else it panics with p again.
func faulted(p any, op string, r *region) *FaultError {
	if f, ok := p.(addressed); ok {
		if o, in := r.contains(f.Addr()); in {
			return &FaultError{Off: Off(o), Op: op, Err: errNotThere}
		}
	}
	panic(p)
}

// copyGuarded fills dst with the bytes of r at from. It returns a memory fault, from a failing
// medium or a file that was truncated, as an error.
func copyGuarded(dst []byte, r *region, from int64) (err error) {
	old := debug.SetPanicOnFault(true)
	defer func() {
		debug.SetPanicOnFault(old)
		if p := recover(); p != nil {
			err = faulted(p, "read", r)
		}
	}()
	copy(dst, r.slice(from, from+int64(len(dst))))
	return nil
}
