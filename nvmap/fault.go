package nvmap

import "runtime/debug"

// faulted turns what recover returned into a FaultError if it is a memory fault
// inside one of the regions. Any other panic goes on.
func faulted(r any, op string, regions ...*region) *FaultError {
	if f, ok := r.(interface{ Addr() uintptr }); ok {
		for _, g := range regions {
			if o, in := g.contains(f.Addr()); in {
				return &FaultError{Off: Off(o), Op: op, Err: r.(error)}
			}
		}
	}
	panic(r)
}

// copyGuarded fills dst with the bytes of r at from. A fault, from a failing
// medium or a file that was truncated behind us, is returned as an error.
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
