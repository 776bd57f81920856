package conformance

import (
	"fmt"
	"strings"
	"sync"
	"time"

	"nvkv/compat"
)

var conditionalCases = []testCase{
	{"Conditional", conditional},
	{"ConditionalRefused", conditionalRefused},
	{"ConditionalExpiry", conditionalExpiry},
	{"ConditionalCounter", conditionalCounter},
}

// conditionalWriter returns the engine, or skips the case.
func (s *store) conditionalWriter() compat.ConditionalWriter {
	s.Helper()
	e, ok := s.Engine.(compat.ConditionalWriter)
	if !ok {
		s.Skip("the engine has no conditional writes")
	}
	return e
}

// held checks the result of a conditional write.
func (s *store) held(what string, want bool) func(bool, error) {
	s.Helper()
	return func(got bool, err error) {
		s.Helper()
		if s.must(err); got != want {
			s.Errorf("%s: %v", what, got)
		}
	}
}

func conditional(s *store) {
	e := s.conditionalWriter()
	for _, key := range []string{"", "k", strings.Repeat("l", 3000)} {
		for _, value := range []string{"", "v", strings.Repeat("w", 200<<10)} {
			k, v, other := []byte(key), []byte(value), []byte(value+"!")
			s.held("swap of an absent key", false)(e.CompareAndSwap(k, nil, v))
			s.held("delete of an absent key", false)(e.CompareAndDelete(k, nil))
			s.held("put of an absent key", true)(e.PutIfAbsent(k, v))
			s.held("put of a key that exists", false)(e.PutIfAbsent(k, other))
			s.held("swap with another value", false)(e.CompareAndSwap(k, other, nil))
			s.held("delete with another value", false)(e.CompareAndDelete(k, other))
			s.wantAll(s, map[string]string{key: value})
			s.held("swap", true)(e.CompareAndSwap(k, v, other))
			s.wantAll(s, map[string]string{key: value + "!"})
			s.held("delete", true)(e.CompareAndDelete(k, other))
			s.wantAll(s, nil)
		}
	}
	s.held("put", true)(e.PutIfAbsent(nil, nil))
	s.held("a nil old is the empty value", true)(e.CompareAndSwap(nil, nil, []byte("x")))
	s.reopen()
	s.wantAll(s, map[string]string{"": "x"})
}

func conditionalRefused(s *store) {
	e := s.conditionalWriter()
	long := make([]byte, compat.MaxKeyBytes+1)
	_, err := e.PutIfAbsent(long, nil)
	s.wantErr("PutIfAbsent of a long key", err, compat.ErrKeyTooLarge)
	s.held("CompareAndDelete of a long key", false)(e.CompareAndDelete(long, nil))
	s.wantAll(s, nil)
	s.must(s.Engine.Close())
	_, err = e.PutIfAbsent(nil, nil)
	s.wantErr("PutIfAbsent after Close", err, compat.ErrClosed)
	_, err = e.CompareAndSwap(nil, nil, nil)
	s.wantErr("CompareAndSwap after Close", err, compat.ErrClosed)
	_, err = e.CompareAndDelete(nil, nil)
	s.wantErr("CompareAndDelete after Close", err, compat.ErrClosed)
}

// conditionalExpiry checks that an expired key is absent, and that a swap clears an expiry.
func conditionalExpiry(s *store) {
	e := s.conditionalWriter()
	x, ok := s.Engine.(compat.Expirer)
	if !ok {
		s.Skip("the engine keeps no expiries")
	}
	s.must(x.PutUntil([]byte("k"), []byte("v"), longFrom))
	s.held("swap", true)(e.CompareAndSwap([]byte("k"), []byte("v"), []byte("w")))
	if at, err := x.Expiry([]byte("k")); err != nil || !at.IsZero() {
		s.Errorf("the key expires at %v, %v", at, err)
	}
	s.must(x.PutUntil([]byte("k"), []byte("v"), time.Now().Add(time.Millisecond)))
	time.Sleep(5 * time.Millisecond)
	s.held("swap of an expired key", false)(e.CompareAndSwap([]byte("k"), []byte("v"), nil))
	s.held("put of an expired key", true)(e.PutIfAbsent([]byte("k"), []byte("n")))
	s.wantAll(s, map[string]string{"k": "n"})
}

// conditionalCounter lets callers increment a number beside plain writes. No increment is lost.
func conditionalCounter(s *store) {
	e := s.conditionalWriter()
	const callers, rounds = 4, 15
	s.put("n", "0")
	var group sync.WaitGroup
	for id := range callers {
		group.Go(func() {
			for i := range rounds {
				for swapped := false; !swapped; {
					old, err := s.Get(nil, []byte("n"))
					if err != nil {
						s.Errorf("Get: %v", err)
						return
					}
					n := 0
					fmt.Sscan(string(old), &n)
					if swapped, err = e.CompareAndSwap([]byte("n"), old, fmt.Append(nil, n+1)); err != nil {
						s.Errorf("CompareAndSwap: %v", err)
						return
					}
				}
				if err := s.Put(fmt.Append(nil, "other", id, i), nil); err != nil {
					s.Errorf("Put: %v", err)
				}
			}
		})
	}
	group.Wait()
	s.want(s, "n", fmt.Sprint(callers*rounds))
}
