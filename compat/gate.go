package compat

import "sync/atomic"

// closedBit marks a gate as closed. It leaves 32 bits for calls inside.
const closedBit = 1 << 32

// A gate lets calls in until it is closed and tells the closer when the last
// one has left. It is not a sync.RWMutex because a call may enter again from
// inside (a Get within a Scan), which deadlocks a read lock as soon as a
// writer waits.
type gate struct {
	state atomic.Uint64 // calls inside, and closedBit
	empty chan struct{} // closed by whoever finds the closed gate empty
}

func newGate() *gate { return &gate{empty: make(chan struct{})} }

// enter reports whether the caller may go on; it must call leave if so.
func (g *gate) enter() bool {
	if g.state.Add(1) < closedBit {
		return true
	}
	g.leave()
	return false
}

func (g *gate) leave() {
	if g.state.Add(^uint64(0)) == closedBit {
		g.signal()
	}
}

// signal closes g.empty once. Late callers pass through a closed gate on
// their way out, so the count may reach zero more than once.
func (g *gate) signal() {
	if g.state.CompareAndSwap(closedBit, closedBit|closedBit<<1) {
		close(g.empty)
	}
}

// close shuts the gate and waits until no call is inside. It reports whether
// this call was the one that shut it.
func (g *gate) close() bool {
	old := g.state.Or(closedBit)
	if old&closedBit != 0 {
		<-g.empty
		return false
	}
	if old == 0 {
		g.signal()
	}
	<-g.empty
	return true
}
