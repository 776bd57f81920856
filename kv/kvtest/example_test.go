package kvtest_test

import (
	"testing"

	"nvkv/kv"
	"nvkv/kv/kvtest"
)

// visits is the code under test: it counts visits in a store.
func visits(db *kv.DB, page string) (n int, err error) {
	err = db.Update(func(tx *kv.Tx) error {
		for range tx.Prefix([]byte(page + "/")) {
			n++
		}
		return tx.Err()
	})
	return n, err
}

// One line gives a test a store of its own, which is audited and closed at the end.
func ExampleNew() {
	_ = func(t *testing.T) { // TestVisits
		db := kvtest.New(t, nil)
		if err := db.Put([]byte("home/1"), nil); err != nil {
			t.Fatal(err)
		}
		if n, err := visits(db, "home"); n != 1 || err != nil {
			t.Errorf("%d visits, %v", n, err)
		}
	}
	// Output:
}
