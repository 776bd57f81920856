package kv

import (
	"errors"
	"fmt"
	"path/filepath"
	"runtime"
	"strings"

	"nvkv/alloc"
	"nvkv/kv/internal/btree"
	"nvkv/kv/internal/record"
	"nvkv/nvmap"
)

// Where the CPU maps the device, index pages and records are read in place.
// Where it does not, this file stands between: bytes come as copies, and a read
// that fails panics with what guarded turns into an error, as a fault in a
// mapping does. So the code above looks the same on both.

// fault returns the medium's error if that is what recover returned, and panics
// with r again if it is not.
func (db *DB) fault(r any, op string) error {
	switch f := r.(type) {
	case btree.ReadFailed:
		return &nvmap.FaultError{Off: f.Off, Op: op, Err: f.Err}
	case *alloc.CorruptError: // the maps and the index are not of one time
		return corrupt(f)
	}
	if f := db.m.Faulted(r, op); f != nil {
		return f
	}
	return nil
}

// corrupt returns err, and what package alloc calls corrupt as this package does.
func corrupt(err error) error {
	var bad *alloc.CorruptError
	if errors.As(err, &bad) {
		return &CorruptError{Off: uint64(bad.Off), Structure: bad.What}
	}
	return err
}

// guardedFn is guarded for a callback. A fault where the medium can be read is a store
// into a slice of the transaction, and the caller's mistake.
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
	record.BodySum(b) // a load that nobody can leave out
	return true
}

// faultedIn returns which function faulted. A deferred call calls it that recovered.
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

// tryBytesAt is bytesAt, with an error where the medium cannot be read and is not
// mapped.
func (db *DB) tryBytesAt(o nvmap.Off, n int) (b []byte, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = db.fault(r, "read")
		}
	}()
	return db.bytesAt(o, n), nil
}

// bytesAt returns the bytes [o, o+n) of the medium, nil where they lie outside:
// a view of it where the device is mapped, good until the device is closed, and
// a copy where it is not.
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

// piece is bytesAt where what is returned is not kept: copies are made in one and
// the same place.
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
