//go:build !nvkvdebug

package locks

import "sync"

// Mutex is a mutex of rank R.
type Mutex[R Ranked] = sync.Mutex

// Await says that the caller is going to wait for a lock of rank r.
func Await(r Rank) {}

// Took says that the caller has a lock of rank r from now on, and Gave that it has none any more.
func Took(r Rank) {}
func Gave(r Rank) {}

// None says that the caller is about to run code of the user, which may make any call.
func None() {}

// Apart runs fn as if on a goroutine of its own. A test of crashes opens one DB where another one
// writes to its device.
func Apart(fn func()) { fn() }
