//go:build nvkvdebug

package locks

import (
	"strings"
	"sync"
	"testing"
)

// panicOf returns what fn panics with, or "". It runs fn on a goroutine of its own, whose locks
// end with it.
func panicOf(fn func()) (text string) {
	var wg sync.WaitGroup
	wg.Go(func() {
		defer func() {
			if r := recover(); r != nil {
				text = r.(string)
			}
		}()
		fn()
	})
	wg.Wait()
	return text
}

// TestOrder checks that every order but the listed one is noticed.
func TestOrder(t *testing.T) {
	for outer := Closing; outer <= Inner; outer++ {
		for inner := Closing; inner <= Inner; inner++ {
			text := panicOf(func() {
				Took(outer)
				defer Gave(outer)
				Await(inner)
			})
			if (text == "") != (outer < inner) {
				t.Errorf("%v under %v: %q", inner, outer, text)
			}
		}
	}
}

// TestMutex checks that the methods of a mutex note it.
func TestMutex(t *testing.T) {
	var publish Mutex[AtPublish]
	var closing Mutex[AtClosing]
	if text := panicOf(func() {
		closing.Lock()
		defer closing.Unlock()
		publish.Lock()
		defer publish.Unlock()
		Await(Backing)
	}); text != "" {
		t.Errorf("in order: %s", text)
	}
	for want, fn := range map[string]func(){
		"waits for closing with publish": func() { publish.Lock(); defer publish.Unlock(); closing.Lock() },
		"called with publish":            func() { publish.Lock(); defer publish.Unlock(); None() },
		"does not have":                  publish.Unlock,
	} {
		if text := panicOf(fn); !strings.Contains(text, want) {
			t.Errorf("%q, want %q", text, want)
		}
	}
}

// TestPassing checks that a lock which a goroutine took may be given up by another that took it over.
func TestPassing(t *testing.T) {
	if text := panicOf(func() {
		Took(Turn)
		Gave(Turn)
		if text := panicOf(func() { Took(Turn); Gave(Turn) }); text != "" {
			panic(text)
		}
		Await(Closing)
	}); text != "" {
		t.Error(text)
	}
}

// TestApart checks that Apart hides the locks of its caller, and brings them back.
func TestApart(t *testing.T) {
	text := panicOf(func() {
		Took(Publish)
		Apart(func() {
			Await(Closing)
			Took(Turn)
		})
		Gave(Publish)
		Await(Closing)
	})
	if text != "" {
		t.Error(text)
	}
}
