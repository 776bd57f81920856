// Package lastwords lets a program learn the last error of an engine that may end the whole
// process.
//
// On a full disk, Pebble ends the process by a fault of Go's runtime that has no text. The command
// line runs it in a child process, which prints the errors that it hears, and shows the user the
// last of them.
package lastwords

import "sync/atomic"

var listener atomic.Pointer[func(error)]

// Hear makes Tell pass its errors to fn from now on, on any goroutine.
func Hear(fn func(error)) { listener.Store(&fn) }

// Tell passes err to the function given to Hear, if there is one and err is not nil, and returns
// err.
func Tell(err error) error {
	if fn := listener.Load(); err != nil && fn != nil {
		(*fn)(err)
	}
	return err
}
