// Package kvtest opens stores for the tests of programs that use nvkv.
//
//	func TestCart(t *testing.T) {
//		cart := NewCart(kvtest.New(t, nil))
//		...
//	}
//
// A store lies in memory, costs what it holds, also under the race detector, and is private to its
// test. At the end of the test the store is audited and closed. The audit fails the test if a
// transaction is still open, and names the place where it began; or if kv.DB.Check finds damage.
//
// # Slices that are used too long
//
// A slice that a transaction returns is valid for a limited time, see kv.Tx. In these stores it is a
// copy, which is overwritten with the byte 0xdb when that time ends. A test that uses the slice too
// late finds these bytes, and the race detector names the two places if they are in two goroutines.
package kvtest

import (
	"context"
	"errors"
	"testing"

	"nvkv/kv"
)

// New returns an empty store in memory. At the end of the test, and before the cleanups that were
// registered earlier, it is audited and closed; a test may close it before. Then only the open
// transactions are checked.
//
// o sets the other options; nil means all defaults. New turns Options.PoisonSlices on. It ends the
// test if the options cannot be those of a new store in memory: another Device than "mem", or
// ReadOnly.
func New(t testing.TB, o *kv.Options) *kv.DB {
	t.Helper()
	var opt kv.Options
	if o != nil {
		opt = *o
	}
	switch {
	case opt.Device != "" && opt.Device != "mem":
		t.Fatalf("kvtest: a store in memory cannot have the device %q", opt.Device)
	case opt.ReadOnly:
		t.Fatal("kvtest: a new store cannot be read-only")
	}
	opt.Device, opt.PoisonSlices = "mem", true
	db, err := kv.Open("", &opt)
	if err != nil {
		t.Fatalf("kvtest: %v", err)
	}
	t.Cleanup(func() { audit(t, db) })
	return db
}

// audit fails the test for everything that is wrong with the store, and closes it.
func audit(t testing.TB, db *kv.DB) {
	t.Helper()
	for _, tx := range db.OpenTx() {
		kind := "a read-only"
		if tx.Writable {
			kind = "a writable"
		}
		t.Errorf("kvtest: %s transaction that began at %s is still open", kind, tx.Where)
	}
	err := db.Check(context.Background(), func(i kv.CheckIssue) { t.Errorf("kvtest: check: %v", i) })
	if err != nil && !errors.Is(err, kv.ErrClosed) {
		t.Errorf("kvtest: check: %v", err)
	}
	if err := db.Close(); err != nil {
		t.Errorf("kvtest: close: %v", err)
	}
}
