package kv

import (
	"errors"
	"fmt"
	"path/filepath"
	"runtime"
	"strings"

	"nvkv/kv/internal/btree"
	"nvkv/kv/internal/record"
	"nvkv/nvmap"
)

// On a mapped device index pages and records are read in place. On other devices this file returns
// copies instead. A read that fails there panics, like a fault in a mapping, and guarded turns both
// into errors. So the code above is the same for both.

// fault returns the error of the medium if r, the value of a panic, stands for one. Otherwise it
// panics with r again.
func (db *DB) fault(r any, op string) error {
	switch f := r.(type) {
	case btree.ReadFailed:
		return &nvmap.FaultError{Off: f.Off, Op: op, Err: f.Err}
	case *CorruptError: // the maps and the index contradict each other
		return f
	}
	if f := db.m.Faulted(r, op); f != nil {
		return f
	}
	return nil
}

// guardedFn is guarded for a callback. A fault at a byte that can be read is a store into a slice
// of the transaction: a mistake of the caller.
func (db *DB) guardedFn(op string, old bool, err *error) {
	panicOnFault(old)
	if r := recover(); r != nil {
		if *err = db.fault(r, op); *err == nil {
			panic(r)
		}
		var f *nvmap.FaultError
		if errors.As(*err, &f) && db.readableAt(f.Off) {
			*err = fmt.Errorf("%w: byte %#x, by %s", ErrSliceWritten, uint64(f.Off), faultedIn())
		}
	}
}

// readableAt says whether the byte at o of a mapped device can be read.
func (db *DB) readableAt(o nvmap.Off) (ok bool) {
	defer panicOnFault(panicOnFault(true))
	defer func() { ok = recover() == nil && ok }()
	b := db.m.View(o, 1)
	if b == nil {
		return false
	}
	record.BodySum(b) // a load that the compiler cannot remove
	return true
}

// faultedIn returns the function that faulted. It must be called by the deferred function that
// recovered.
func faultedIn() string {
	var pcs [64]uintptr
	frames := runtime.CallersFrames(pcs[:runtime.Callers(2, pcs[:])])
	for faulted := false; ; {
		f, more := frames.Next()
		switch {
		case faulted && !strings.HasPrefix(f.Function, "runtime."): // copy faults in there
			return fmt.Sprintf("%s at %s:%d", f.Function, filepath.Base(f.File), f.Line)
		case !more:
			return "?"
		}
		faulted = faulted || f.Function == "runtime.sigpanic"
	}
}

// tryBytesAt is bytesAt that returns an error if a device that is not mapped cannot be read.
func (db *DB) tryBytesAt(o nvmap.Off, n int) (b []byte, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = db.fault(r, "read")
		}
	}()
	return db.bytesAt(o, n), nil
}

// bytesAt returns the bytes [o, o+n) of the medium, or nil if they are not inside it. On a mapped
// device the result is a view, valid until the device is closed; on others it is a copy.
func (db *DB) bytesAt(o nvmap.Off, n int) []byte {
	if db.ix.Mapped() {
		return db.m.View(o, n)
	}
	size := db.m.Size()
	if n < 0 || int64(n) > size || uint64(o) > uint64(size-int64(n)) {
		return nil
	}
	b := make([]byte, n)
	if err := db.m.Load(o, b); err != nil {
		btree.Unread(o, err)
	}
	return b
}

// piece is bytesAt for a result that is not kept. It copies into *place, which it reuses.
func (db *DB) piece(o nvmap.Off, n int, place *[]byte) []byte {
	if db.ix.Mapped() {
		return db.m.View(o, n)
	}
	if cap(*place) < n {
		*place = make([]byte, n)
	}
	b := (*place)[:n]
	if err := db.m.Load(o, b); err != nil {
		btree.Unread(o, err)
	}
	return b
}
