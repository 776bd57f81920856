package kv

import (
	"path/filepath"
	"testing"
	"time"
)

// TestLockTimeout: Open waits for the owner of a store as long as LockTimeout says, and by default
// not at all. A refused Open leaves the owner's store as it is.
func TestLockTimeout(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	first, err := Open(path, nil)
	must(t, err)
	must(t, first.Put([]byte("k"), []byte("v")))
	for _, wait := range []time.Duration{0, time.Millisecond} {
		_, err := Open(path, &Options{LockTimeout: wait})
		wantErr(t, "the store has an owner", err, ErrLocked)
	}
	_, err = Open(path, &Options{LockTimeout: -1})
	if err == nil {
		t.Error("a negative LockTimeout")
	}
	closed := make(chan error)
	go func() { closed <- first.Close() }()
	second, err := Open(path, &Options{LockTimeout: time.Hour})
	must(t, err)
	must(t, <-closed)
	v, err := second.Get([]byte("k"))
	if err != nil || string(v) != "v" {
		t.Errorf("%q, %v", v, err)
	}
	must(t, second.Close())
}
