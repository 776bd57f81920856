// Package goroutine tells goroutines apart, for calls that must not wait for
// the goroutine that makes them.
package goroutine

import (
	"runtime"
	"strconv"
	"strings"
	"sync"
)

// ID returns the number that the runtime gives to the calling goroutine, the one
// that stack traces show. No other goroutine of the process ever has it.
//
// The runtime prints that number and has no call for it, and printing takes 6
// to 60 microseconds. It also keeps it in the goroutine's descriptor, which the
// CPU always has an address of. Where in there is not for us to know, and may
// change with any release: so it is found out once, by looking for the printed
// numbers of some goroutines in theirs. From then on ID takes a few nanoseconds.
// Where that finds no place, or more than one, ID goes on printing.
func ID() uint64 {
	if at := place(); at != nowhere {
		return word(at)
	}
	return printed()
}

// place is where descriptors have the number, in bytes from their beginning, or
// nowhere.
var place = sync.OnceValue(func() uintptr {
	if !readable {
		return nowhere
	}
	return find()
})

const (
	nowhere = ^uintptr(0)

	// searched is how much of a descriptor is looked at, in bytes: less than the
	// smallest that there has been in a release with this language version.
	searched = 256
	// witnesses are the goroutines that must agree.
	witnesses = 5
)

func find() uintptr {
	var fits [searched / 8]int
	for range witnesses {
		var seen sync.WaitGroup
		seen.Go(func() {
			id := printed()
			for i := range fits {
				if word(uintptr(i)*8) == id {
					fits[i]++
				}
			}
		})
		seen.Wait()
	}
	at := nowhere
	for i, n := range fits {
		switch {
		case n < witnesses:
		case at != nowhere:
			return nowhere
		default:
			at = uintptr(i) * 8
		}
	}
	return at
}

// printed is ID as a stack trace has it: "goroutine 18 [running]:".
func printed() uint64 {
	var b [40]byte
	text := string(b[:runtime.Stack(b[:], false)])
	digits, _, _ := strings.Cut(strings.TrimPrefix(text, "goroutine "), " ")
	id, err := strconv.ParseUint(digits, 10, 64)
	if err != nil {
		return 0 // no goroutine has that
	}
	return id
}
