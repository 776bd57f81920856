package kv

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"testing"
)

// TestReadersBesideALargeWrite stops large writes when they are fenced and built but not shown yet.
// Readers then see the state before and do not wait.
func TestReadersBesideALargeWrite(t *testing.T) {
	if raceBuild {
		t.Skip("readers and the writer are kept apart")
	}
	const n = 3000
	key := func(i int) []byte { return fmt.Appendf(nil, "%05d", i) }
	for name, write := range map[string]func(db *DB, after model) error{
		"batch": func(db *DB, after model) error {
			b := db.NewBatch()
			for i := range n {
				switch i % 3 {
				case 0:
					b.Delete(key(i))
					delete(after, string(key(i)))
				case 1:
					b.Put(key(i), []byte("after"))
					after[string(key(i))] = "after"
				}
				b.Put(append(key(i), "new"...), []byte("new"))
				after[string(key(i))+"new"] = "new"
			}
			return db.Write(b)
		},
		"range": func(db *DB, after model) error {
			for i := 100; i < n-100; i++ {
				delete(after, string(key(i)))
			}
			return db.DeleteRange(key(100), key(n-100))
		},
	} {
		t.Run(name, func(t *testing.T) {
			var at func()
			path := filepath.Join(testDir(t), "s")
			db := openTest(t, path, &Options{EvacuateBytes: -1, reached: func(i instant) {
				if at != nil && i == atBuilt {
					at()
				}
			}})
			before, after := model{}, model{}
			b := db.NewBatch()
			for i := range n {
				k := key(i)
				before[string(k)], after[string(k)] = string(k), string(k)
				b.Put(k, k)
			}
			large := string(make([]byte, 100_000))
			b.Put([]byte("large"), []byte(large))
			before["large"], after["large"] = large, large
			must(t, db.Write(b))
			must(t, db.Checkpoint(context.Background()))
			var older, kept *Tx
			older, err := db.Begin(false)
			must(t, err)
			must(t, db.Put(key(1), []byte("in between")))
			before[string(key(1))] = "in between"
			if name == "range" {
				after[string(key(1))] = "in between"
			}
			at = func() {
				at = nil
				must(t, db.View(func(tx *Tx) error { return sameAs(tx, before) }))
				kept, err = db.Begin(false)
				must(t, err)
				for _, i := range []int{0, 1, n / 2, n/2 + 1, n - 1} {
					wantGet(t, db.Get, string(key(i)), before[string(key(i))], true)
				}
				wantGet(t, db.Get, "large", large, true)
				must(t, older.Rollback())
				m := 0
				must(t, db.Scan(nil, nil, -1, func(_, _ []byte) bool { m++; return true }))
				if m != len(before) {
					t.Errorf("%d records, %d before", m, len(before))
				}
			}
			must(t, write(db, after))
			if kept == nil {
				t.Fatal("the write was not stopped: it is none of the large ones")
			}
			must(t, holds(db, after))
			must(t, sameAs(kept, before))
			must(t, clean(db))
			must(t, kept.Rollback())
			must(t, clean(db))
			if m := db.Metrics(); m.Keys != int64(len(after)) || m.PinnedBytes != 0 {
				t.Errorf("%d keys, not %d; %d bytes pinned", m.Keys, len(after), m.PinnedBytes)
			}
			abandon(db)
			db, err = Open(path, nil)
			must(t, err)
			must(t, errors.Join(holds(db, after), clean(db), db.Close()))
		})
	}
}
