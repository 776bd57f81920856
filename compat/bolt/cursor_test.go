package bbolt_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"go.etcd.io/bbolt"
)

// walker is what a cursor over sorted keys does.
type walker struct {
	keys []string
	at   int // in keys; nowhere and behind below
}

const (
	nowhere = -1
	behind  = -2
)

// move does a motion and returns the key that it ends on, "" for none.
func (w *walker) move(motion, seek string) string {
	switch motion {
	case "First", "Last":
		w.at = map[string]int{"First": 0, "Last": len(w.keys) - 1}[motion]
		if len(w.keys) == 0 {
			w.at = nowhere
			return ""
		}
	case "Seek":
		if w.at, _ = slices.BinarySearch(w.keys, seek); w.at == len(w.keys) {
			w.at = behind
			return ""
		}
	case "Next":
		if w.at < 0 || w.at == len(w.keys)-1 {
			return ""
		}
		w.at++
	case "Prev":
		switch {
		case w.at == behind:
			return w.move("Last", "")
		case w.at <= 0:
			return ""
		}
		w.at--
	}
	return w.keys[w.at]
}

// TestCursorWalk: a cursor that moves at random is where a model says, in transactions of both
// kinds, between buckets that have items of their own, and over nested buckets.
func TestCursorWalk(t *testing.T) {
	for _, n := range []int{0, 1, 2, 100} {
		db := open(t, &bbolt.Options{NoSync: true})
		w := &walker{}
		err := db.Update(func(tx *bbolt.Tx) error {
			for _, name := range []string{"a", "b", "c"} {
				b, err := tx.CreateBucket([]byte(name))
				if err != nil {
					return err
				}
				for i := range n {
					key := fmt.Sprintf("%03d", 3*i)
					if name == "b" {
						w.keys = append(w.keys, key)
					}
					if i%10 == 3 {
						_, err = b.CreateBucket([]byte(key))
					} else {
						err = b.Put([]byte(key), []byte(name+key))
					}
					if err != nil {
						return err
					}
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		for _, writable := range []bool{false, true} {
			tx, err := db.Begin(writable)
			if err != nil {
				t.Fatal(err)
			}
			walk(t, tx, w)
			if err := tx.Rollback(); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// walk moves a cursor over the bucket "b" as w moves.
func walk(t *testing.T, tx *bbolt.Tx, w *walker) {
	t.Helper()
	r := rand.New(rand.NewPCG(3, uint64(len(w.keys))))
	c, motions := tx.Bucket([]byte("b")).Cursor(), []string{"First", "Last", "Seek", "Next", "Prev"}
	w.at = nowhere
	for step := 0; step < 2000; {
		motion := motions[r.IntN(len(motions))]
		times := 1
		if motion == "Next" || motion == "Prev" {
			times = 1 + r.IntN(30)
		}
		for range times {
			seek := fmt.Sprintf("%03d", r.IntN(310))
			var k, v []byte
			switch motion {
			case "First":
				k, v = c.First()
			case "Last":
				k, v = c.Last()
			case "Seek":
				k, v = c.Seek([]byte(seek))
			case "Next":
				k, v = c.Next()
			case "Prev":
				k, v = c.Prev()
			}
			want := w.move(motion, seek)
			value := "b" + want
			if want == "" || w.at%10 == 3 {
				value = ""
			}
			if string(k) != want || string(v) != value || (v == nil) != (value == "") {
				t.Fatalf("%d items, writable %v, step %d, %s %s: %q %q; want %q %q", len(w.keys), tx.Writable(), step, motion, seek, k, v, want, value)
			}
			step++
		}
	}
}
