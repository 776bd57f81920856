//go:build nvkvdebug

package locks

import (
	"fmt"
	"slices"
	"sync"

	"nvkv/internal/goroutine"
)

// held lists the ranks of the locks that each goroutine has, in the order in which it took them.
var held = struct {
	sync.Mutex
	by map[uint64][]Rank
}{by: map[uint64][]Rank{}}

// Mutex is a mutex of rank R.
type Mutex[R Ranked] struct{ mu sync.Mutex }

func (m *Mutex[R]) Lock() {
	var at R
	Await(at.rank())
	m.mu.Lock()
	Took(at.rank())
}

func (m *Mutex[R]) TryLock() bool {
	var at R
	ok := m.mu.TryLock()
	if ok {
		Took(at.rank())
	}
	return ok
}

func (m *Mutex[R]) Unlock() {
	var at R
	Gave(at.rank())
	m.mu.Unlock()
}

// Await says that the caller is going to wait for a lock of rank r.
func Await(r Rank) {
	held.Lock()
	defer held.Unlock()
	for _, has := range held.by[goroutine.ID()] {
		if has >= r {
			panic(fmt.Sprintf("kv: lock order: waits for %v with %v", r, has))
		}
	}
}

// Took says that the caller has a lock of rank r from now on.
func Took(r Rank) {
	held.Lock()
	defer held.Unlock()
	id := goroutine.ID()
	held.by[id] = append(held.by[id], r)
}

// Gave says that the caller has given a lock of rank r up.
func Gave(r Rank) {
	held.Lock()
	defer held.Unlock()
	id := goroutine.ID()
	has := held.by[id]
	i := len(has) - 1
	for i >= 0 && has[i] != r {
		i--
	}
	if i < 0 {
		panic(fmt.Sprintf("kv: lock order: a goroutine gives %v up that it does not have", r))
	}
	if held.by[id] = slices.Delete(has, i, i+1); len(has) == 1 {
		delete(held.by, id)
	}
}

// None says that the caller is about to run code of the user, which may make any call.
func None() {
	held.Lock()
	defer held.Unlock()
	for _, has := range held.by[goroutine.ID()] {
		if has != Closing { // Close logs with it; a call of Close from there answers ErrNested
			panic(fmt.Sprintf("kv: lock order: a callback is called with %v", has))
		}
	}
}

// Apart runs fn as if on a goroutine of its own. A test of crashes opens one DB where another one
// writes to its device.
func Apart(fn func()) {
	id := goroutine.ID()
	had := swap(id, nil)
	defer func() { swap(id, had) }()
	fn()
}

// swap sets the locks that a goroutine has, and returns those that it had.
func swap(id uint64, now []Rank) (had []Rank) {
	held.Lock()
	defer held.Unlock()
	had = held.by[id]
	if held.by[id] = now; now == nil {
		delete(held.by, id)
	}
	return had
}
