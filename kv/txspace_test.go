package kv

import (
	"context"
	"path/filepath"
	"testing"
)

// TestTxSpace: a Tx reports the live and the free bytes. A value is live, is free after it was
// deleted, and is not counted after its space was given back. A snapshot keeps its first report.
func TestTxSpace(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store")
	db := openTest(t, path, &Options{EvacuateBytes: -1})
	const large = 4 << 20
	empty := spaceOf(t, db)
	must(t, db.Put([]byte("k"), make([]byte, large)))
	tx, err := db.Begin(false)
	must(t, err)
	full := tx.Space()
	if n := full.Live - empty.Live; n < large || n > large+large/8 {
		t.Errorf("%d bytes more are live", n)
	}
	must(t, db.Delete([]byte("k")))
	if s := tx.Space(); s != full {
		t.Errorf("the snapshot says %+v and then %+v", full, s)
	}
	must(t, tx.Rollback())
	must(t, db.Checkpoint(context.Background()))
	if s := spaceOf(t, db); s.Live > empty.Live+1<<16 || s.Free < large {
		t.Errorf("after the delete: %+v", s)
	}
	must(t, db.Compact(context.Background()))
	if s := spaceOf(t, db); s.Free > large {
		t.Errorf("after Compact: %+v", s)
	}
	must(t, db.Close())
	db = openTest(t, path, nil)
	if s := spaceOf(t, db); s.Live == 0 || s.Live > empty.Live+1<<16 {
		t.Errorf("after opening: %+v", s)
	}
}

// spaceOf returns the report of a writable and of a read-only Tx, which must agree.
func spaceOf(t *testing.T, db *DB) (s Space) {
	t.Helper()
	must(t, db.Update(func(tx *Tx) error { s = tx.Space(); return nil }))
	must(t, db.View(func(tx *Tx) error {
		if tx.Space() != s {
			t.Errorf("a read-only Tx says %+v, a writable one %+v", tx.Space(), s)
		}
		return nil
	}))
	return s
}
