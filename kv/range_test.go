package kv

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestDeleteRangeBounds deletes ranges of the same keys, in each of the three ways.
func TestDeleteRangeBounds(t *testing.T) {
	keys := []string{"", "a", "b", "ba", "c", "d"}
	b := func(s string) []byte { return []byte(s) }
	for _, c := range []struct {
		what       string
		start, end []byte
		want       string
	}{
		{"everything", nil, nil, "none"},
		{"from the empty key", b(""), nil, "none"},
		{"from a present key", b("b"), nil, ",a"},
		{"from an absent key", b("aa"), nil, ",a"},
		{"to a present key", nil, b("c"), "c,d"},
		{"to an absent key", nil, b("bz"), "c,d"},
		{"inside", b("a"), b("c"), ",c,d"},
		{"empty end", nil, b(""), ",a,b,ba,c,d"},
		{"start is end", b("b"), b("b"), ",a,b,ba,c,d"},
		{"start above end", b("c"), b("a"), ",a,b,ba,c,d"},
		{"beyond", b("e"), nil, ",a,b,ba,c,d"},
		{"bounds that are too long for keys", make([]byte, 70_000), b("b" + strings.Repeat("z", 70_000)), ",c,d"},
	} {
		for how, del := range map[string]func(db *DB) error{
			"DB": func(db *DB) error { return db.DeleteRange(c.start, c.end) },
			"Tx": func(db *DB) error {
				return db.Update(func(tx *Tx) error {
					if err := tx.DeleteRange(c.start, c.end); err != nil {
						return err
					}
					if got := strings.Join(keysOf(tx.All(nil, nil)), ","); got != c.want && c.want != "none" {
						t.Errorf("%s: the Tx itself sees %s, want %s", c.what, got, c.want)
					}
					return nil
				})
			},
			"Batch": func(db *DB) error {
				b := db.NewBatch()
				b.DeleteRange(c.start, c.end)
				return db.Write(b)
			},
		} {
			db := openMem(t)
			fill(t, db, keys...)
			must(t, del(db))
			want := model{}
			for _, k := range strings.Split(c.want, ",") {
				if c.want != "none" {
					want[k] = k
				}
			}
			want.compare(t, db)
			if t.Failed() {
				t.Fatalf("%s, %s", how, c.what)
			}
		}
	}
}

// TestDeleteRangeAtomic deletes 3,000 keys with one fence and at one instant.
func TestDeleteRangeAtomic(t *testing.T) {
	path := filepath.Join(testDir(t), "s")
	db := openTest(t, path, nil)
	const n = 3000
	var keys []string
	for i := range n {
		keys = append(keys, fmt.Sprintf("%05d", i))
	}
	fill(t, db, keys...)
	must(t, db.Put([]byte("x"), make([]byte, 1<<20)))
	must(t, db.Delete([]byte("x")))
	must(t, db.Checkpoint(t.Context())) // makes room: growing takes fences of its own
	stop, seen := make(chan struct{}), make(chan error, 1)
	go func() {
		for {
			select {
			case <-stop:
				seen <- nil
				return
			default:
			}
			first, err := db.Has([]byte(keys[100]))
			last, err2 := db.Has([]byte(keys[n-1]))
			if err = errors.Join(err, err2); err == nil && !first && last {
				err = errors.New("half a range is gone")
			}
			if err != nil {
				seen <- err
				return
			}
		}
	}()
	before := db.Metrics()
	must(t, db.DeleteRange([]byte(keys[100]), nil))
	if m := db.Metrics(); m.Fences-before.Fences != 1 || m.Keys != 100 {
		t.Errorf("%d fences, %d keys left", m.Fences-before.Fences, m.Keys)
	}
	close(stop)
	must(t, <-seen)
	must(t, db.DeleteRange([]byte("x"), nil))
	if m := db.Metrics(); m.Commits-before.Commits != 1 {
		t.Error("a range without keys was committed")
	}
	must(t, db.Close())
	db = openTest(t, path, nil)
	want := model{}
	for _, k := range keys[:100] {
		want[k] = k
	}
	want.compare(t, db)
}

// TestBatchRanges: a range covers the operations before it in the batch and not those after it, and
// the batch can be written again.
func TestBatchRanges(t *testing.T) {
	db := openMem(t)
	fill(t, db, "a", "b", "c", "d", "x")
	b := db.NewBatch()
	b.Put([]byte("bb"), []byte("before"))
	b.Put([]byte("a"), []byte("before"))
	b.DeleteRange([]byte("b"), []byte("d"))
	b.Put([]byte("c"), []byte("after"))
	b.Delete([]byte("x"))
	b.PutTTL([]byte("ttl"), []byte("v"), time.Hour)
	want := model{"a": "before", "c": "after", "d": "d", "ttl": "v"}
	before := db.Metrics()
	must(t, db.Write(b))
	if n := db.Metrics().Fences - before.Fences; n != 1 {
		t.Errorf("%d fences", n)
	}
	want.compare(t, db)
	fill(t, db, "b", "bz", "x")
	must(t, db.Write(b))
	want.compare(t, db)
	if b.Len() != 6 {
		t.Errorf("Len is %d", b.Len())
	}
	// Without ranges it is an ordinary batch.
	b.Reset()
	b.Put([]byte("b"), []byte("again"))
	must(t, db.Write(b))
	want["b"] = "again"
	want.compare(t, db)
	// A batch that cannot be written changes nothing.
	b.DeleteRange(nil, nil)
	b.Put(make([]byte, MaxKeyBytes+1), nil)
	wantErr(t, "a batch with a long key", db.Write(b), ErrKeyTooLarge)
	want.compare(t, db)
}

func TestBatchReplay(t *testing.T) {
	b := new(Batch)
	b.Put([]byte("p"), []byte("1"))
	b.Delete([]byte("d"))
	b.DeleteRange([]byte("r"), []byte("s"))
	b.PutTTL([]byte("t"), []byte("2"), time.Minute)
	b.PutTTL([]byte("u"), []byte("3"), 0)
	b.DeleteRange(nil, nil)
	b.DeleteRange([]byte("x"), []byte{})
	var got []string
	note := func(format string, args ...any) { got = append(got, fmt.Sprintf(format, args...)) }
	b.Replay(
		func(k, v []byte, ttl time.Duration) { note("put %s=%s %v", k, v, ttl) },
		func(k []byte) { note("delete %s", k) },
		func(start, end []byte) { note("range %q open=%v %q", start, end == nil, end) },
	)
	want := []string{"put p=1 0s", "delete d", `range "r" open=false "s"`, "put t=2 1m0s", "delete u", `range "" open=true ""`, `range "x" open=false ""`}
	if !slices.Equal(got, want) {
		t.Errorf("%q\nwant %q", got, want)
	}
	b.Replay(nil, nil, nil)
	if b.Len() != 7 || b.Size() != len("p1drst2ux") {
		t.Errorf("Len %d, Size %d", b.Len(), b.Size())
	}
}

// TestWriteFullOnceMore: a write finds the store full and succeeds at the second attempt. It must
// write what it would have written at the first (R1).
func TestWriteFullOnceMore(t *testing.T) {
	db := openTest(t, filepath.Join(testDir(t), "s"), &Options{MaxBytes: 4 << 20, SlabBytes: 4096})
	value := make([]byte, 900)
	n := 0
	for ; ; n++ {
		if err := db.Put(fmt.Appendf(nil, "%06d", n), value); err != nil {
			wantErr(t, "Put", err, ErrFull)
			break
		}
	}
	for i := range n / 2 {
		must(t, db.Delete(fmt.Appendf(nil, "%06d", i)))
	}
	before := db.Metrics()
	for i := 0; db.Metrics().Checkpoints == before.Checkpoints; i++ {
		if i > n {
			t.Fatal("never full again")
		}
		puts := db.Metrics().Puts
		b := db.NewBatch()
		b.Delete([]byte("absent"))
		b.Put(fmt.Appendf(nil, "b%06d", i), value)
		must(t, db.Write(b))
		if got := db.Metrics().Puts - puts; got != 1 {
			t.Fatalf("%d records for one key", got)
		}
	}
}
