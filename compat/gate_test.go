package compat

import (
	"sync"
	"sync/atomic"
	"testing"
)

func TestGate(t *testing.T) {
	g := newGate()
	for range 2 {
		if !g.enter() {
			t.Fatal("an open gate refused a call")
		}
	}
	g.leave()
	closed := make(chan bool)
	go func() { closed <- g.close() }()
	for g.enter() {
		g.leave()
	}
	select {
	case <-closed:
		t.Fatal("closed over a call inside")
	default:
	}
	g.leave()
	if !<-closed {
		t.Error("the first close did not report that it was")
	}
	if g.close() {
		t.Error("the second close reported to be the first")
	}
	if g.enter() {
		t.Error("a closed gate let a call in")
	}
}

// TestGateRace closes gates under load. No call may be inside afterwards.
func TestGateRace(t *testing.T) {
	for range 2000 {
		g := newGate()
		var inside atomic.Int64
		var group sync.WaitGroup
		for range 3 {
			group.Go(func() {
				for g.enter() {
					inside.Add(1)
					inside.Add(-1)
					g.leave()
				}
			})
		}
		group.Go(func() { g.close() })
		g.close()
		if n := inside.Load(); n != 0 {
			t.Fatalf("%d calls inside a closed gate", n)
		}
		group.Wait()
	}
}
