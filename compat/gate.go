package compat

import "sync/atomic"

// closedBit marks a gate as closed. It leaves 32 bits for the number of calls inside.
const closedBit = 1 << 32

// A gate admits calls until it is closed, and tells the closer when the last one has left. It is
// not a sync.RWMutex because a call may enter again from inside (a Get within a Scan), which
// deadlocks a read lock as soon as a writer waits.
type gate struct {
	state atomic.Uint64 // number of calls inside, and closedBit
	empty chan struct{} // closed when the closed gate is empty
}

func newGate() *gate { return &gate{empty: make(chan struct{})} }

// enter reports whether the caller may proceed. If so, the caller must call leave.
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

// signal closes g.empty once. Late callers enter and leave a closed gate, so the count may reach
// zero more than once.
func (g *gate) signal() {
	if g.state.CompareAndSwap(closedBit, closedBit|closedBit<<1) {
		close(g.empty)
	}
}

// close closes the gate and waits until no call is inside. It reports whether this call closed it.
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
