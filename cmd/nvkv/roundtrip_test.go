package main

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"nvkv/kv"
)

// held is the content of a store under a key.
type held struct {
	value string
	until time.Time
}

// drawStore returns random contents of a store: keys and values of arbitrary bytes and of all
// critical lengths, some of which expire.
func drawStore(t *rapid.T) map[string]held {
	long := func(n int) *rapid.Generator[string] {
		return rapid.Map(rapid.Byte(), func(b byte) string { return strings.Repeat(string([]byte{b, 0}), n)[:n] })
	}
	few := rapid.StringOfN(rapid.RuneFrom([]rune("\x00\x01\"\\,\t\r\n é\x1b")), 0, 6, -1)
	any := rapid.Map(rapid.SliceOfN(rapid.Byte(), 0, 40), func(b []byte) string { return string(b) })
	key := rapid.OneOf(any, few, rapid.Just(""), long(kv.MaxKeyBytes), long(32_769))
	value := rapid.OneOf(any, few, rapid.Just(""), long(70_000), long(16_385), long(300_000))
	entry := rapid.Custom(func(t *rapid.T) held {
		h := held{value: value.Draw(t, "value")}
		if rapid.Bool().Draw(t, "expires") {
			h.until = later.Add(time.Duration(rapid.Int64Range(0, 1e15).Draw(t, "until")))
		}
		return h
	})
	return rapid.MapOfN(key, entry, 0, 8).Draw(t, "store")
}

// fillStore makes a store with the given contents.
func fillStore(t rapid.TB, path string, contents map[string]held) {
	db, err := kv.Open(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range slices.Sorted(maps.Keys(contents)) {
		if err := db.PutUntil([]byte(key), []byte(contents[key].value), contents[key].until); err != nil {
			t.Fatal(err)
		}
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
}

// storeContents returns the contents of a store.
func storeContents(t rapid.TB, path string) map[string]held {
	db, err := kv.Open(path, &kv.Options{ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	got := map[string]held{}
	err = db.View(func(tx *kv.Tx) error {
		c := tx.Cursor()
		defer c.Close()
		for ok := c.First(); ok; ok = c.Next() {
			got[string(c.Key())] = held{string(c.Value()), c.Expiry()}
		}
		return c.Err()
	})
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// roundTrip is a sequence of commands to another form and back.
type roundTrip struct {
	name    string
	there   func(store, dir string) []string // command lines, one after the other
	pipes   bool                             // each command reads the output of the previous one
	forever bool                             // expiries are lost, and counted
	keys    func(key string) bool            // keys that the form can hold; nil: all
}

func roundTrips() []roundTrip {
	list := []roundTrip{
		{name: "backup", there: func(s, d string) []string {
			return []string{"backup " + s + " " + d + "/b", "restore " + d + "/b " + d + "/back.nv"}
		}},
		{name: "backup by a pipe", pipes: true, there: func(s, d string) []string {
			return []string{"backup " + s + " -", "restore - " + d + "/back.nv"}
		}},
		{name: "salvage", there: func(s, d string) []string { return []string{"salvage " + s + " " + d + "/back.nv"} }},
		{name: "salvage as lines", there: func(s, d string) []string {
			return []string{"salvage " + s + " " + d + "/s.jsonl", "load " + d + "/back.nv " + d + "/s.jsonl"}
		}},
		{name: "pebble", forever: true, keys: func(k string) bool { return k != "" }, there: convertBy("pebble:%s/p")},
		{name: "bbolt", forever: true, keys: func(k string) bool { return k != "" && len(k) <= 32_768 }, there: convertBy("bbolt:%s/b.db/bucket")},
		{name: "nvkv", there: convertBy("nvkv:%s/n.nv")},
	}
	for _, f := range []string{"jsonl", "csv", "tsv", "lines"} {
		list = append(list,
			roundTrip{name: "dump " + f, pipes: true, forever: f == "lines", there: func(s, d string) []string {
				return []string{"dump " + s + " --format " + f, "load " + d + "/back.nv - --format " + f}
			}},
			roundTrip{name: "convert " + f, forever: f == "lines", there: convertBy(f + ":%s/t")})
	}
	return list
}

func convertBy(format string) func(store, dir string) []string {
	return func(s, d string) []string {
		by := fmt.Sprintf(format, d)
		return []string{"convert --from nvkv:" + s + " --to " + by, "convert --from " + by + " --to nvkv:" + d + "/back.nv"}
	}
}

// TestRoundTrips checks that a store is the same after every round trip, or that a warning counts
// the differences.
func TestRoundTrips(t *testing.T) {
	trips, checks := roundTrips(), 0
	rapid.Check(t, func(rt *rapid.T) {
		if checks++; checks > checksWanted() {
			return
		}
		dir, err := os.MkdirTemp(memoryDir(t), "nvkv-test-")
		if err != nil {
			rt.Fatal(err)
		}
		defer os.RemoveAll(dir)
		contents := drawStore(rt)
		store := filepath.Join(dir, "store.nv")
		fillStore(rt, store, contents)
		for i := range trips {
			trips[i].run(rt, store, filepath.Join(dir, fmt.Sprint(i)), contents)
		}
	})
}

// memoryDir returns a directory in memory, so that tests do not wait for a disk.
func memoryDir(t *testing.T) string {
	if fi, err := os.Stat("/dev/shm"); err == nil && fi.IsDir() {
		return "/dev/shm"
	}
	return t.TempDir()
}

// checksWanted bounds the number of random stores. Each makes thirteen round trips.
func checksWanted() int {
	if os.Getenv("NVKV_TEST") == "long" {
		return 1 << 30
	}
	return 4
}

func (r *roundTrip) run(t *rapid.T, store, dir string, contents map[string]held) {
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	ending, stdin, warned := 0, "", ""
	want := map[string]held{}
	for key, h := range contents {
		if r.keys != nil && !r.keys(key) {
			r.refused(t, store, dir)
			return
		}
		if !h.until.IsZero() && r.forever {
			h.until = time.Time{}
			ending++
		}
		want[key] = h
	}
	for _, line := range r.there(store, dir) {
		var out, errOut bytes.Buffer
		if code := run(t.Context(), strings.Fields(line), strings.NewReader(stdin), &out, &errOut); code != exitDone {
			t.Fatalf("%s: nvkv %s: exit %d: %s", r.name, line, code, &errOut)
		}
		warned += errOut.String()
		if r.pipes {
			stdin = out.String()
		}
	}
	if ending > 0 && !strings.Contains(warned, "warning: "+plural(ending, "record")+" of what was written will not expire") {
		t.Fatalf("%s: %d expiries are lost; warned %q", r.name, ending, warned)
	}
	if got := storeContents(t, filepath.Join(dir, "back.nv")); !maps.EqualFunc(got, want, sameHeld) {
		t.Fatalf("%s: %d records came back of %d, or others", r.name, len(got), len(want))
	}
}

// refused checks that a store that the form cannot hold is refused completely.
func (r *roundTrip) refused(t *rapid.T, store, dir string) {
	line := r.there(store, dir)[0]
	var out, errOut bytes.Buffer
	code := run(t.Context(), strings.Fields(line), strings.NewReader(""), &out, &errOut)
	left, err := os.ReadDir(dir)
	if code != exitFailed || !strings.Contains(errOut.String(), "key") || err != nil || len(left) > 0 {
		t.Fatalf("%s: exit %d, %q; left %v, %v", r.name, code, &errOut, left, err)
	}
}

func sameHeld(a, b held) bool { return a.value == b.value && a.until.Equal(b.until) }
