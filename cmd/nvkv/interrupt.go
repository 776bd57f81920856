package main

import (
	"context"
	"io"
)

// interruptible is an input whose reads end with the context. A read of an idle terminal or pipe
// would otherwise keep a command from ending in good order.
type interruptible struct {
	ctx  context.Context
	r    io.Reader
	buf  []byte
	left []byte      // read and not returned yet
	read chan ioDone // nil if no read is in progress
}

type ioDone struct {
	n   int
	err error
}

// interruptibleBytes is the size of a read.
const interruptibleBytes = 64 << 10

func (in *interruptible) Read(p []byte) (int, error) {
	if len(in.left) == 0 {
		n, err := in.fill()
		in.left = in.buf[:n]
		if n == 0 {
			return 0, err // with bytes, the error comes again
		}
	}
	n := copy(p, in.left)
	in.left = in.left[n:]
	return n, nil
}

// fill reads in a goroutine, which outlives an interruption.
func (in *interruptible) fill() (int, error) {
	if in.read == nil {
		if in.buf == nil {
			in.buf = make([]byte, interruptibleBytes)
		}
		in.read = make(chan ioDone, 1)
		go func(done chan<- ioDone) {
			n, err := in.r.Read(in.buf)
			done <- ioDone{n, err}
		}(in.read)
	}
	select {
	case d := <-in.read:
		in.read = nil
		return d.n, d.err
	case <-in.ctx.Done():
		return 0, errInterrupted
	}
}
