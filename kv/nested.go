package kv

import (
	"math/bits"
	"reflect"
	"runtime"
	"sync/atomic"
)

// A goroutine that writes through the DB while it is inside Update would wait
// for itself. Go gives no cheap name to a goroutine: asking the runtime for one
// costs 5 to 60 microseconds, too much for every Update. But a goroutine can
// look at its own stack, and only one that finds the turn held by an Update
// does. So every Update that is under way in the process gets a colour of its
// own, and runs fn through the function of that colour: whoever has that
// function on the stack is inside that Update.

// runners are the colours. They differ in nothing but where their code is.
var runners = [...]func(*Tx, func(*Tx) error) error{run0, run1, run2, run3, run4, run5, run6, run7}

//go:noinline
func run0(tx *Tx, fn func(*Tx) error) error { return tx.run(fn) }

//go:noinline
func run1(tx *Tx, fn func(*Tx) error) error { return tx.run(fn) }

//go:noinline
func run2(tx *Tx, fn func(*Tx) error) error { return tx.run(fn) }

//go:noinline
func run3(tx *Tx, fn func(*Tx) error) error { return tx.run(fn) }

//go:noinline
func run4(tx *Tx, fn func(*Tx) error) error { return tx.run(fn) }

//go:noinline
func run5(tx *Tx, fn func(*Tx) error) error { return tx.run(fn) }

//go:noinline
func run6(tx *Tx, fn func(*Tx) error) error { return tx.run(fn) }

//go:noinline
func run7(tx *Tx, fn func(*Tx) error) error { return tx.run(fn) }

// entries of runners: what runtime.FuncForPC says of their frames.
var runnerEntries = func() (e [len(runners)]uintptr) {
	for i, f := range runners {
		e[i] = reflect.ValueOf(f).Pointer()
	}
	return e
}()

// colours has a bit for each colour that an open Update has. A Tx takes one
// before it becomes its store's writer and gives it back when it is not any
// more, so a colour on the stack and on the writer means one and the same.
var colours atomic.Uint32

const (
	allColours = 1<<len(runners) - 1
	noColour   = -1 // all are taken by Updates of other stores
)

func takeColour() int {
	for {
		taken := colours.Load()
		if taken == allColours {
			return noColour
		}
		c := bits.TrailingZeros32(^taken)
		if colours.CompareAndSwap(taken, taken|1<<c) {
			return c
		}
	}
}

func giveColour(c int) {
	if c != noColour {
		colours.And(^(uint32(1) << c))
	}
}

// run calls fn in the function of the Tx's colour.
func (w *writing) run(tx *Tx, fn func(*Tx) error) error {
	if w.colour == noColour {
		return tx.run(fn)
	}
	return runners[w.colour](tx, fn)
}

// maxFrames is how far up the stack nested looks.
const maxFrames = 512

// nested says whether the calling goroutine is inside this store's Update. It
// is certain when it says so. It does not recognise a Tx of Begin(true), nor an
// Update that is more than maxFrames up the stack or has no colour because
// eight other stores are being updated.
func (db *DB) nested() bool {
	tx := db.txs.writer.Load()
	if tx == nil || !tx.w.managed || tx.w.colour == noColour {
		return false
	}
	entry := runnerEntries[tx.w.colour]
	var pcs [maxFrames]uintptr
	for _, pc := range pcs[:runtime.Callers(2, pcs[:])] {
		if f := runtime.FuncForPC(pc - 1); f != nil && f.Entry() == entry {
			return true
		}
	}
	return false
}
