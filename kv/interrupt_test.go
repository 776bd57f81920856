package kv

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestInterruptedCommits: a commit that panics during a change of the index, at any step, leaves no
// caller waiting. The store has failed. It shows the state before the commit or the state after it,
// and has one of these when it is opened again.
func TestInterruptedCommits(t *testing.T) {
	type operation struct {
		name string
		opt  Options
		do   func(db *DB, m model) error // and changes m likewise
	}
	key := func(i int) string { return fmt.Sprintf("%04d%s", i, strings.Repeat("k", 100)) }
	batch := func(db *DB, m model) error {
		b := db.NewBatch()
		for i := range 12 {
			k := key(300*i + 1)
			b.Put([]byte(k), []byte("new"))
			m[k] = "new"
		}
		b.Delete([]byte(key(20)))
		delete(m, key(20))
		return db.Write(b)
	}
	operations := []operation{
		{"put", Options{}, func(db *DB, m model) error { m[key(10)] = "new"; return db.Put([]byte(key(10)), []byte("new")) }},
		{"split", Options{}, func(db *DB, m model) error {
			k := strings.Repeat("long", 220)
			m[k] = "new"
			return db.Put([]byte(k), []byte("new"))
		}},
		{"delete", Options{}, func(db *DB, m model) error {
			for i := 0; i < 200; i += 10 { // all but one of the first leaves, in a batch that ends
				if k := key(i); i != 50 && m[k] != "" {
					delete(m, k)
				}
			}
			return db.Update(func(tx *Tx) error { return tx.DeleteRange([]byte(key(0)), []byte(key(200))) })
		}},
		{"batch", Options{}, batch},
		{"root swap", Options{privateFrom: 2}, batch},
		{"range", Options{}, func(db *DB, m model) error {
			maps.DeleteFunc(m, func(k, _ string) bool { return k >= key(500) && k < key(1500) })
			return db.DeleteRange([]byte(key(500)), []byte(key(1500)))
		}},
	}
	for _, op := range operations {
		t.Run(op.name, func(t *testing.T) {
			for step := 1; ; step += 1 + step/8 {
				path := filepath.Join(testDir(t), "s")
				o := op.opt
				o.EvacuateBytes = -1
				db, err := Open(path, &o)
				must(t, err)
				before := model{}
				inBatches(t, db, 200, func(b *Batch, i int) {
					before[key(10*i)] = "old"
					b.Put([]byte(key(10*i)), []byte("old"))
				})
				must(t, db.Checkpoint(t.Context()))
				after := maps.Clone(before)
				if op.name == "delete" {
					delete(after, key(50))
				}
				left := step
				db.ix.OnStep(func() {
					if left--; left == 0 {
						panic("interrupted")
					}
				})
				if !panics(func() { must(t, op.do(db, after)) }) {
					if step < 5 {
						t.Errorf("%d steps", step)
					}
					after.compare(t, db)
					must(t, db.Close())
					return
				}
				within(t, fmt.Sprintf("%s, step %d", op.name, step), func() { judgeInterrupted(t, db, before, after) })
				db, err = Open(path, &o)
				must(t, err)
				got, err := contents(db)
				must(t, err)
				if !maps.Equal(got, after) {
					t.Errorf("step %d: after reopening: %s", step, difference(got, after))
				}
				mustCheck(t, db)
				must(t, db.Close())
			}
		})
	}
}

func panics(fn func()) (yes bool) {
	defer func() { yes = recover() != nil }()
	fn()
	return false
}

// within fails if fn does not return, because a caller waits for ever.
func within(t *testing.T, what string, fn func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		fn()
	}()
	select {
	case <-done:
	case <-time.After(time.Minute):
		t.Fatalf("%s: still waiting", what)
	}
}

// judgeInterrupted checks a store whose commit was interrupted, and closes it.
func judgeInterrupted(t *testing.T, db *DB, before, after model) {
	t.Helper()
	got, failed := model{}, 0
	for k := range withBoth(before, after) {
		switch v, err := db.Get([]byte(k)); {
		case err == nil:
			got[k] = string(v)
		case errors.Is(err, ErrFailed):
			failed++
		case !errors.Is(err, ErrNotFound):
			t.Errorf("Get: %v", err)
		}
	}
	if failed == 0 && !maps.Equal(got, before) && !maps.Equal(got, after) {
		t.Errorf("a state in between shows: %s", difference(got, before))
	}
	seen, err := contents(db)
	if err == nil && !maps.Equal(seen, got) {
		t.Errorf("a snapshot differs: %s", difference(seen, got))
	} else if err != nil && (!errors.Is(err, ErrFailed) || failed == 0) {
		t.Errorf("a snapshot: %v", err)
	}
	if err := db.Put([]byte("x"), nil); !errors.Is(err, ErrFailed) {
		t.Errorf("Put: %v", err)
	}
	if err := db.Checkpoint(context.Background()); !errors.Is(err, ErrFailed) {
		t.Errorf("Checkpoint: %v", err)
	}
	_ = db.Scan(nil, nil, 10, func(_, _ []byte) bool { return true })
	db.Metrics()
	must(t, db.Close())
}

func withBoth(a, b model) model {
	all := maps.Clone(a)
	maps.Copy(all, b)
	return all
}
