package goroutine

import (
	"sync"
	"testing"
)

// TestID checks that ID is the printed number, in goroutines of all depths, and in those that reuse
// the descriptor of one that has ended.
func TestID(t *testing.T) {
	var mu sync.Mutex
	seen := map[uint64]bool{ID(): true}
	for range 50 {
		var wg sync.WaitGroup
		for depth := range 20 {
			wg.Go(func() { deep(depth*100, func() { check(t, &mu, seen) }) })
		}
		wg.Wait()
	}
	if len(seen) != 1+50*20 {
		t.Errorf("%d numbers", len(seen))
	}
	t.Logf("at byte %d of descriptors", int(place()))
}

func check(t *testing.T, mu *sync.Mutex, seen map[uint64]bool) {
	id := ID()
	if want := printed(); id != want || id == 0 {
		t.Errorf("goroutine %d, printed %d", id, want)
	}
	mu.Lock()
	defer mu.Unlock()
	if seen[id] {
		t.Errorf("a second goroutine %d", id)
	}
	seen[id] = true
}

// deep calls fn n calls down, so that the stack has moved.
func deep(n int, fn func()) int {
	if n == 0 {
		fn()
		return 0
	}
	return 1 + deep(n-1, fn)
}

// TestFound checks that the fast way works where it is supported, so that a release that moves the
// number is noticed.
func TestFound(t *testing.T) {
	if readable && place() == nowhere {
		t.Error("the number is not found in descriptors: every Update prints a stack")
	}
}

func BenchmarkID(b *testing.B) {
	for b.Loop() {
		ID()
	}
}
