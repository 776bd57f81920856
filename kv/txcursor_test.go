package kv

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"nvkv/kv/internal/btree"
	"nvkv/kv/internal/record"
	"nvkv/nvmap"
)

// fill puts the keys, each with itself as value.
func fill(t testing.TB, db *DB, keys ...string) {
	t.Helper()
	b := db.NewBatch()
	for _, k := range keys {
		b.Put([]byte(k), []byte(k))
	}
	must(t, db.Write(b))
}

// inTx runs fn in several kinds of Tx that see the keys: a read-only one on a store that holds
// them, a writable one on such a store, and writable ones that put some or all of them, or deleted
// others, themselves.
func inTx(t *testing.T, keys []string, fn func(t *testing.T, tx *Tx)) {
	write := func(tx *Tx, keys []string) {
		for _, k := range keys {
			must(t, tx.Put([]byte(k), []byte(k)))
		}
	}
	update := func(stored []string, prepare func(tx *Tx)) func(t *testing.T) {
		return func(t *testing.T) {
			db := openMem(t)
			fill(t, db, stored...)
			must(t, db.Update(func(tx *Tx) error {
				prepare(tx)
				fn(t, tx)
				return nil
			}))
		}
	}
	var odd, even []string
	for i, k := range keys {
		if i%2 == 1 {
			odd = append(odd, k)
		} else {
			even = append(even, k)
		}
	}
	t.Run("read-only", func(t *testing.T) {
		db := openMem(t)
		fill(t, db, keys...)
		must(t, db.View(func(tx *Tx) error { fn(t, tx); return nil }))
	})
	t.Run("writable", update(keys, func(*Tx) {}))
	t.Run("own", update(nil, func(tx *Tx) { write(tx, keys) }))
	t.Run("mixed", update(even, func(tx *Tx) { write(tx, odd) }))
	t.Run("replaced", update(keys, func(tx *Tx) { write(tx, odd) }))
	t.Run("deleted", update(append(slices.Clone(keys), "0", "bb", "cc", "zz"), func(tx *Tx) {
		for _, k := range []string{"0", "bb", "cc", "zz"} {
			must(t, tx.Delete([]byte(k)))
		}
	}))
}

func keysOf(seq func(func(k, v []byte) bool)) (out []string) {
	for k, v := range seq {
		if !bytes.Equal(k, v) {
			out = append(out, fmt.Sprintf("%s has %s", k, v))
			continue
		}
		out = append(out, string(k))
	}
	return out
}

func TestTxRanges(t *testing.T) {
	keys := []string{"", "a", "b", "ba", "c", "d"}
	inTx(t, keys, func(t *testing.T, tx *Tx) {
		b := func(s string) []byte { return []byte(s) }
		for _, c := range []struct {
			what       string
			start, end []byte
			want       string
		}{
			{"everything", nil, nil, ",a,b,ba,c,d"},
			{"from the empty key", b(""), nil, ",a,b,ba,c,d"},
			{"from a present key", b("b"), nil, "b,ba,c,d"},
			{"from an absent key", b("aa"), nil, "b,ba,c,d"},
			{"to a present key", nil, b("c"), ",a,b,ba"},
			{"to an absent key", nil, b("bz"), ",a,b,ba"},
			{"inside", b("a"), b("c"), "a,b,ba"},
			{"empty end", nil, b(""), ""},
			{"start is end", b("b"), b("b"), ""},
			{"start above end", b("c"), b("a"), ""},
			{"beyond", b("e"), nil, ""},
		} {
			want := strings.Split(c.want, ",")
			if c.want == "" {
				want = nil
			}
			if got := keysOf(tx.All(c.start, c.end)); !slices.Equal(got, want) {
				t.Errorf("All, %s: %q, want %q", c.what, got, want)
			}
			slices.Reverse(want)
			if got := keysOf(tx.Backward(c.start, c.end)); !slices.Equal(got, want) {
				t.Errorf("Backward, %s: %q, want %q", c.what, got, want)
			}
		}
		if got := keysOf(tx.Prefix(b("b"))); !slices.Equal(got, []string{"b", "ba"}) {
			t.Errorf("Prefix: %q", got)
		}
		if got := keysOf(tx.Prefix(nil)); len(got) != len(keys) {
			t.Errorf("Prefix of nil: %q", got)
		}
		for range tx.All(nil, nil) {
			break // and no more keys
		}
		must(t, tx.Err())
	})
}

// TestTxRangeBuffers reuses the buffers of the bounds before the range is walked.
func TestTxRangeBuffers(t *testing.T) {
	inTx(t, []string{"a", "b", "c"}, func(t *testing.T, tx *Tx) {
		start, end := []byte("a"), []byte("c")
		all, back, prefix := tx.All(start, end), tx.Backward(start, end), tx.Prefix(start)
		start[0], end[0] = 'x', 'x'
		if got := fmt.Sprint(keysOf(all), keysOf(back), keysOf(prefix)); got != "[a b] [b a] [a]" {
			t.Error(got)
		}
	})
}

// TestTxPrefixEdges has prefixes without an upper bound.
func TestTxPrefixEdges(t *testing.T) {
	inTx(t, []string{"\xfe", "\xff", "\xff\xff", "\xff\xffa"}, func(t *testing.T, tx *Tx) {
		if got := keysOf(tx.Prefix([]byte("\xff"))); len(got) != 3 {
			t.Errorf("prefix ff: %q", got)
		}
		if got := keysOf(tx.Prefix([]byte("\xff\xff"))); len(got) != 2 {
			t.Errorf("prefix ffff: %q", got)
		}
		if got := keysOf(tx.Prefix([]byte("\xfe"))); len(got) != 1 {
			t.Errorf("prefix fe: %q", got)
		}
	})
}

// TestCursorMoves drives a cursor with a script: a letter is a move, and the text after the colon
// is the key that the cursor must be on, "-" for none.
func TestCursorMoves(t *testing.T) {
	inTx(t, []string{"a", "b", "c", "d"}, func(t *testing.T, tx *Tx) {
		for _, script := range []string{
			"N:a N:b N:c N:d N:- N:- P:d P:c", // after the last Next, Prev moves to the last key
			"P:d P:c P:b P:a P:- P:- N:a N:b", // and the other way round
			"F:a P:- N:a L:d N:- P:d",
			"F:a N:b P:a N:b N:c P:b P:a P:- N:a",
			"S=b:b S=bz:c N:d S=e:- P:d S=:a",
			"T=b:a T=a:- N:a T=z:d N:- T=bz:b P:a T=:- N:a",
			"S=c:c P:b N:c N:d",
			"T=c:b N:c P:b P:a",
		} {
			c := tx.Cursor()
			for _, w := range strings.Fields(script) {
				motion, want, _ := strings.Cut(w, ":")
				motion, key, _ := strings.Cut(motion, "=")
				ok := map[string]func() bool{
					"N": c.Next, "P": c.Prev, "F": c.First, "L": c.Last,
					"S": func() bool { return c.Seek([]byte(key)) }, "T": func() bool { return c.SeekLT([]byte(key)) },
				}[motion]()
				got := string(c.Key())
				if !c.Valid() {
					got = "-"
				}
				if got != want || ok != c.Valid() || !bytes.Equal(c.Key(), c.Value()) || c.Err() != nil {
					t.Fatalf("%q: at %s stands on %s with %q, %v", script, w, got, c.Value(), c.Err())
				}
			}
			must(t, c.Close())
			must(t, c.Close())
			if c.Valid() || c.Key() != nil || c.First() || !errors.Is(c.Err(), ErrTxClosed) {
				t.Errorf("a closed cursor moves: %v", c.Err())
			}
		}
	})
}

func TestCursorEmpty(t *testing.T) {
	inTx(t, nil, func(t *testing.T, tx *Tx) {
		c := tx.Cursor()
		for _, ok := range []bool{c.First(), c.Last(), c.Seek(nil), c.SeekLT([]byte("x")), c.SeekLT(nil), c.Next(), c.Prev()} {
			if ok || c.Valid() || c.Key() != nil || c.Value() != nil || c.Err() != nil {
				t.Errorf("a cursor over nothing stands on %q, %v", c.Key(), c.Err())
			}
		}
	})
}

// TestTxIterateAndChange changes keys in the middle of an iteration of a writable Tx, in every way
// and both directions. The iteration meets keys put ahead of it, not those put behind it, and skips
// or repeats no other key.
func TestTxIterateAndChange(t *testing.T) {
	stored := []string{"b", "d", "f", "h"}
	for _, c := range []struct {
		what, forward, backward string
		change                  func(tx *Tx, at string)
	}{
		{"nothing", "bdfh", "hfdb", func(*Tx, string) {}},
		{"delete the key itself", "bdfh", "hfdb", func(tx *Tx, at string) { _ = tx.Delete([]byte(at)) }},
		{"put the key itself", "bdfh", "hfdb", func(tx *Tx, at string) { _ = tx.Put([]byte(at), []byte(at)) }},
		{"delete and put it", "bdfh", "hfdb", func(tx *Tx, at string) {
			_ = tx.Delete([]byte(at))
			_ = tx.Put([]byte(at), []byte(at))
		}},
		{"put the next above", "bcdefghi", "hfdb", func(tx *Tx, at string) {
			if len(at) == 1 && at < "i" {
				_ = tx.Put([]byte{at[0] + 1}, []byte{at[0] + 1})
			}
		}},
		{"put the next below", "bdfh", "hgfedcba", func(tx *Tx, at string) {
			if at > "a" {
				_ = tx.Put([]byte{at[0] - 1}, []byte{at[0] - 1})
			}
		}},
		{"delete the next above", "bf", "hfdb", func(tx *Tx, at string) { _ = tx.Delete([]byte{at[0] + 2}) }},
		{"delete the next below", "bdfh", "hd", func(tx *Tx, at string) { _ = tx.Delete([]byte{at[0] - 2}) }},
		{"delete everything", "b", "h", func(tx *Tx, at string) { _ = tx.DeleteRange(nil, nil) }},
		{"delete all others", "b", "h", func(tx *Tx, at string) {
			_ = tx.DeleteRange(nil, []byte(at))
			_ = tx.DeleteRange([]byte(at+"\x00"), nil)
		}},
		{"put two ahead, delete one", "bdefh", "hfdb", func(tx *Tx, at string) {
			if at == "d" {
				_ = tx.Put([]byte("e"), []byte("e"))
				_ = tx.Put([]byte("g"), []byte("g"))
				_ = tx.Delete([]byte("g"))
			}
		}},
	} {
		for own := range 3 { // stored, put by the Tx, or alternating
			db := openMem(t)
			for i, k := range stored {
				if own == 0 || own == 2 && i%2 == 0 {
					fill(t, db, k)
				}
			}
			begin := func() *Tx {
				tx, err := db.Begin(true)
				must(t, err)
				for i, k := range stored {
					if own == 1 || own == 2 && i%2 == 1 {
						must(t, tx.Put([]byte(k), []byte(k)))
					}
				}
				return tx
			}
			run := func(dir, want string, seq func(tx *Tx) func(func(k, v []byte) bool), cursor func(*Cursor) (start, step func() bool)) {
				tx := begin()
				got := ""
				for k := range seq(tx) {
					got += string(k)
					c.change(tx, string(k))
				}
				if got != want || tx.Err() != nil {
					t.Errorf("%s, %s, own=%d: %s, want %s; %v", c.what, dir, own, got, want, tx.Err())
				}
				must(t, tx.Rollback())
				tx = begin()
				got = ""
				cur := tx.Cursor()
				start, step := cursor(cur)
				for ok := start(); ok; ok = step() {
					k := string(cur.Key())
					got += k
					c.change(tx, k)
					if string(cur.Key()) != k || string(cur.Value()) != k {
						t.Errorf("%s: the cursor's key changed to %s=%s under it", c.what, cur.Key(), cur.Value())
					}
				}
				if got != want || cur.Err() != nil {
					t.Errorf("%s, %s cursor, own=%d: %s, want %s; %v", c.what, dir, own, got, want, cur.Err())
				}
				must(t, tx.Rollback())
			}
			run("forward", c.forward, func(tx *Tx) func(func(k, v []byte) bool) { return tx.All(nil, nil) },
				func(c *Cursor) (func() bool, func() bool) { return c.First, c.Next })
			run("backward", c.backward, func(tx *Tx) func(func(k, v []byte) bool) { return tx.Backward(nil, nil) },
				func(c *Cursor) (func() bool, func() bool) { return c.Last, c.Prev })
		}
	}
}

// TestCursorTurnsAfterChange reverses the direction directly after a change on either side.
func TestCursorTurnsAfterChange(t *testing.T) {
	db := openMem(t)
	fill(t, db, "b", "d", "f")
	must(t, db.Update(func(tx *Tx) error {
		c := tx.Cursor()
		stand := func(ok bool, want string) {
			t.Helper()
			if !ok || string(c.Key()) != want {
				t.Errorf("stands on %q, want %q", c.Key(), want)
			}
		}
		put := func(k string) { must(t, tx.Put([]byte(k), []byte(k))) }
		stand(c.Seek([]byte("d")), "d")
		put("c")
		stand(c.Prev(), "c")
		put("cc")
		stand(c.Next(), "cc")
		must(t, tx.Delete([]byte("cc")))
		must(t, tx.Delete([]byte("d")))
		stand(c.Next(), "f")
		if c.Next() {
			t.Error("something beyond f")
		}
		put("g")
		stand(c.Prev(), "g")
		put("fa")
		stand(c.Prev(), "fa")
		return nil
	}))
}

// TestCursorStable walks a snapshot while all its records are replaced, deleted and checkpointed.
func TestCursorStable(t *testing.T) {
	db := openMem(t)
	var keys []string
	for i := range 2000 {
		keys = append(keys, fmt.Sprintf("%05d", i))
	}
	fill(t, db, keys...)
	tx, err := db.Begin(false)
	must(t, err)
	c := tx.Cursor()
	var seen []string
	var slicesSeen [][]byte
	for ok := c.First(); ok; ok = c.Next() {
		seen = append(seen, string(c.Key()))
		slicesSeen = append(slicesSeen, c.Value())
		switch i := len(seen); {
		case i == 700:
			must(t, db.DeleteRange([]byte("00100"), []byte("01500")))
			must(t, db.Checkpoint(context.Background()))
		case i%3 == 0:
			must(t, db.Put(fmt.Appendf(nil, "%05d", i), []byte("other")))
			must(t, db.Put(fmt.Appendf(nil, "%05d-new", i), []byte("other")))
		}
	}
	must(t, c.Err())
	if !slices.Equal(seen, keys) {
		t.Errorf("%d keys seen, %d were there", len(seen), len(keys))
	}
	for i, v := range slicesSeen {
		if string(v) != keys[i] {
			t.Fatalf("a value that was handed out is %q, was %q", v, keys[i])
		}
	}
	slices.Reverse(seen)
	back := keysOf(tx.Backward(nil, nil))
	if !slices.Equal(back, seen) {
		t.Errorf("%d keys backward, %d forward", len(back), len(seen))
	}
	must(t, tx.Rollback())
}

// TestUpdateRefusesHalfIteration: if an error cut an iteration of fn short, its changes are not
// committed.
func TestUpdateRefusesHalfIteration(t *testing.T) {
	db, err := OpenDevice(newMemDevice(), nil)
	must(t, err)
	fill(t, db, "a", "b", "c")
	corruptRecord(t, db, "b")
	err = db.Update(func(tx *Tx) error {
		n := 0
		for range tx.All(nil, nil) {
			n++
		}
		wantErr(t, "Err", tx.Err(), ErrCorrupt)
		c := tx.Cursor()
		c.Seek([]byte("b"))
		wantErr(t, "the cursor", c.Err(), ErrCorrupt)
		if c.Next() || c.Prev() || c.Valid() {
			t.Error("a cursor goes on after an error")
		}
		if !c.Last() || string(c.Key()) != "c" || c.Close() != nil {
			t.Errorf("a new start fails: %v", c.Err())
		}
		return tx.Put([]byte("count"), fmt.Append(nil, n))
	})
	wantErr(t, "Update", err, ErrCorrupt)
	wantGet(t, db.Get, "count", "", false)
	must(t, db.Close())
}

func newMemDevice() nvmap.Device { return nvmap.NewMem(8 << 20) }

// corruptRecord inverts a bit of the record of key.
func corruptRecord(t testing.TB, db *DB, key string) {
	t.Helper()
	var p btree.Path
	must(t, db.ix.Find([]byte(key), &p))
	if !p.Found() {
		t.Fatalf("no key %q", key)
	}
	o := btree.RefOff(db.ix.Old(&p))
	var rec record.Record
	must(t, db.readRecord(o, &rec))
	b := bytes.Clone(db.m.View(o, rec.Size))
	b[rec.Size-1] ^= 1
	must(t, db.m.Write(o, b))
}

// TestTxEndedInsideIteration: an iteration ends when its Tx ends.
func TestTxEndedInsideIteration(t *testing.T) {
	for _, writable := range []bool{false, true} {
		db := openMem(t)
		fill(t, db, "a", "b", "c")
		for _, backward := range []bool{false, true} {
			tx, err := db.Begin(writable)
			must(t, err)
			seq := tx.All(nil, nil)
			if backward {
				seq = tx.Backward(nil, nil)
			}
			n := 0
			for range seq {
				n++
				must(t, tx.Rollback())
			}
			if n != 1 {
				t.Errorf("writable=%v: %d keys yielded by a Tx that ended at the first", writable, n)
			}
			wantErr(t, "Err", tx.Err(), ErrTxClosed)
		}
	}
}
