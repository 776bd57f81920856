package convert_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	bolt "go.etcd.io/bbolt"

	"nvkv/compat"
	"nvkv/compat/convert"
)

// flat are locations, below a directory, of stores that keep keys unchanged.
var flat = []string{"nvkv:%s/store.nvkv", "bbolt:%s/store.db/bucket", "bbolt:%s/nested.db/outer/in%%2Fner", "pebble:%s/pebble"}

// entries returns n entries of arbitrary bytes, by key.
func entries(n int) map[string]string {
	all := map[string]string{"\x00": "zero", "\x00\x01": "as if a bucket", "\xff": "", "a": strings.Repeat("large", 100_000)}
	for i := range n {
		all[fmt.Sprintf("key-%05d\x00%d", i*7919%n, i)] = strings.Repeat(fmt.Sprint(i), i%50)
	}
	return all
}

func TestEveryFlatPair(t *testing.T) {
	want := entries(3000)
	for _, from := range flat {
		for _, to := range flat {
			t.Run(strings.ReplaceAll(from+" to "+to, "%s/", ""), func(t *testing.T) {
				source := locate(t, from, t.TempDir())
				fill(t, source, want)
				destination := locate(t, to, t.TempDir())
				result := run(t, source, destination, convert.Options{})
				if result.Entries != int64(len(want)) {
					t.Errorf("%d entries, want %d", result.Entries, len(want))
				}
				if got := contents(t, destination); !maps.Equal(got, want) {
					t.Errorf("%d entries are there, not the same as the %d of the source", len(got), len(want))
				}
				wantOnly(t, filepath.Dir(destination.Path), filepath.Base(destination.Path))
			})
		}
	}
}

func TestBucketsThereAndBack(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "nested.db")
	makeNested(t, path)
	want := listing(t, path)
	stops := []string{"bbolt:" + path, "nvkv:" + dir + "/flat.nvkv", "pebble:" + dir + "/flat", "bbolt:" + dir + "/flat.db/bucket", "bbolt:" + dir + "/back.db"}
	var checksums []string
	for i := 1; i < len(stops); i++ {
		result := run(t, parse(t, stops[i-1]), parse(t, stops[i]), convert.Options{})
		checksums = append(checksums, result.Checksum)
	}
	if got := listing(t, filepath.Join(dir, "back.db")); got != want {
		t.Errorf("came back as\n%swant\n%s", got, want)
	}
	if checksums = slices.Compact(checksums); len(checksums) != 1 {
		t.Errorf("the same entries have the checksums %v", checksums)
	}
}

// makeNested writes a file with every kind of bucket.
func makeNested(t *testing.T, path string) {
	t.Helper()
	db, err := bolt.Open(path, 0o600, nil)
	check(t, err)
	defer db.Close()
	check(t, db.Update(func(tx *bolt.Tx) error {
		for _, name := range []string{"a", "a\x00", "ab", "\x00", "empty", "b\x01"} {
			b, err := tx.CreateBucket([]byte(name))
			check(t, err)
			if name == "empty" {
				continue
			}
			check(t, b.Put([]byte("k"), []byte("v-"+name)))
			check(t, b.Put([]byte("\x00\x01\xff"), nil))
			check(t, b.Put([]byte("x"), []byte("beside")))
			for _, inner := range []string{"in", "x\x00", "void"} {
				nested, err := b.CreateBucket([]byte(inner))
				check(t, err)
				if inner != "void" {
					check(t, nested.Put([]byte("deep"), []byte(name+inner)))
				}
			}
			check(t, b.SetSequence(uint64(len(name)*1000)))
			check(t, b.Bucket([]byte("void")).SetSequence(7))
		}
		return nil
	}))
}

// listing returns the contents of a bbolt file as text, including sequence numbers.
func listing(t *testing.T, path string) string {
	t.Helper()
	db, err := bolt.Open(path, 0, &bolt.Options{ReadOnly: true})
	check(t, err)
	defer db.Close()
	var out strings.Builder
	check(t, db.View(func(tx *bolt.Tx) error {
		return tx.ForEach(func(name []byte, b *bolt.Bucket) error { return list(&out, fmt.Sprintf("%q", name), b) })
	}))
	return out.String()
}

func list(out *strings.Builder, path string, b *bolt.Bucket) error {
	fmt.Fprintf(out, "%s sequence %d\n", path, b.Sequence())
	return b.ForEach(func(k, v []byte) error {
		if v == nil {
			return list(out, fmt.Sprintf("%s %q", path, k), b.Bucket(k))
		}
		fmt.Fprintf(out, "%s %q=%q\n", path, k, v)
		return nil
	})
}

func TestDestinationThatExists(t *testing.T) {
	want := map[string]string{"new": "1"}
	for _, to := range []string{"nvkv:%s/store.nvkv", "bbolt:%s/store.db", "pebble:%s/pebble"} {
		t.Run(to, func(t *testing.T) {
			source := locate(t, "pebble:%s/from", t.TempDir())
			if strings.HasPrefix(to, "bbolt") {
				fill(t, source, map[string]string{"bucket\x00\x01new": "1"})
				want = map[string]string{"bucket\x00\x01new": "1"}
			} else {
				fill(t, source, want)
			}
			dir := t.TempDir()
			destination := locate(t, to, dir)
			run(t, source, destination, convert.Options{})
			fill(t, source, want) // the same again
			if _, err := convert.Run(t.Context(), source, destination, convert.Options{}); !errors.Is(err, convert.ErrExists) {
				t.Fatalf("without force: %v, want ErrExists", err)
			}
			run(t, source, destination, convert.Options{Force: true})
			if got := contents(t, destination); !maps.Equal(got, want) {
				t.Errorf("replaced: %q, want %q", got, want)
			}
			wantOnly(t, dir, filepath.Base(destination.Path))
		})
	}
}

func TestBucketIsAddedToAFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "store.db")
	source := locate(t, "pebble:%s/from", t.TempDir())
	fill(t, source, map[string]string{"k": "v"})
	run(t, source, parse(t, "bbolt:"+path+"/first"), convert.Options{})
	run(t, source, parse(t, "bbolt:"+path+"/second/inner"), convert.Options{})
	_, err := convert.Run(t.Context(), source, parse(t, "bbolt:"+path+"/first"), convert.Options{})
	if !errors.Is(err, convert.ErrExists) || !strings.Contains(err.Error(), "first") {
		t.Errorf("a bucket that exists: %v, want ErrExists and its name", err)
	}
	fill(t, source, map[string]string{"other": "w"})
	run(t, source, parse(t, "bbolt:"+path+"/first"), convert.Options{Force: true})
	want := "\"first\" sequence 0\n\"first\" \"k\"=\"v\"\n\"first\" \"other\"=\"w\"\n" +
		"\"second\" sequence 0\n\"second\" \"inner\" sequence 0\n\"second\" \"inner\" \"k\"=\"v\"\n"
	if got := listing(t, path); got != want {
		t.Errorf("file holds\n%swant\n%s", got, want)
	}
	wantOnly(t, dir, "store.db")
}

func TestBucketsOfOneFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store.db")
	first, second := parse(t, "bbolt:"+path+"/first"), "bbolt:"+path+"/second"
	fill(t, first, map[string]string{"k": "v"})
	run(t, first, parse(t, second), convert.Options{})
	want := "\"first\" sequence 0\n\"first\" \"k\"=\"v\"\n\"second\" sequence 0\n\"second\" \"k\"=\"v\"\n"
	if got := listing(t, path); got != want {
		t.Errorf("file holds\n%swant\n%s", got, want)
	}
}

// TestNothingElseIsReplaced uses destinations that are not stores of the format.
func TestNothingElseIsReplaced(t *testing.T) {
	source := locate(t, "pebble:%s/from", t.TempDir())
	fill(t, source, map[string]string{"bucket\x00\x01k": "v"})
	dir := t.TempDir()
	check(t, os.WriteFile(filepath.Join(dir, "precious"), []byte("text"), 0o600))
	for _, to := range []string{"pebble:" + dir, "bbolt:" + dir, "pebble:" + dir + "/precious", "nvkv:" + dir, "nvkv:" + dir + "/no/such", "pebble:" + dir + "/no/such"} {
		if _, err := convert.Run(t.Context(), source, parse(t, to), convert.Options{Force: true}); err == nil {
			t.Errorf("%s was replaced", to)
		}
	}
	wantOnly(t, dir, "precious")
}

func TestLockedStores(t *testing.T) {
	for _, engine := range []string{"nvkv", "pebble"} {
		dir := t.TempDir()
		source, destination := locate(t, engine+":%s/from", dir), locate(t, engine+":%s/to", dir)
		fill(t, source, map[string]string{"k": "v"})
		fill(t, destination, map[string]string{"old": "v"})
		for _, locked := range []convert.Location{source, destination} {
			e, err := compat.OpenPath(engine, locked.Path, compat.Options{})
			check(t, err)
			if _, err := convert.Run(t.Context(), source, destination, convert.Options{Force: true}); !errors.Is(err, compat.ErrLocked) {
				t.Errorf("%v is in use: %v, want ErrLocked", locked, err)
			}
			check(t, e.Close())
		}
		if got := contents(t, destination); !maps.Equal(got, map[string]string{"old": "v"}) {
			t.Errorf("destination changed to %q", got)
		}
	}
}

func TestSourcesThatCannotBeRead(t *testing.T) {
	dir := t.TempDir()
	text := filepath.Join(dir, "text")
	check(t, os.WriteFile(text, bytes.Repeat([]byte("text\n"), 10_000), 0o600))
	nested := filepath.Join(dir, "nested.db")
	makeNested(t, nested)
	check(t, os.Mkdir(filepath.Join(dir, "empty"), 0o700))
	for _, c := range []struct{ from, names string }{
		{"bbolt:" + dir + "/absent", "absent"},
		{"bbolt:" + text, text},
		{"bbolt:" + dir, dir},
		{"bbolt:" + nested + "/absent", "absent"},
		{"bbolt:" + nested + "/a/k", "a/k"},
		{"bbolt:" + nested + "/a", "in"},
		{"nvkv:" + dir + "/absent", "absent"},
		{"nvkv:" + text, text},
		{"nvkv:" + nested, nested},
		{"nvkv:" + dir, dir},
		{"pebble:" + dir + "/absent", "absent"},
		{"pebble:" + dir + "/empty", "empty"},
		{"pebble:" + text, text},
	} {
		to := parse(t, "pebble:"+filepath.Join(t.TempDir(), "to"))
		_, err := convert.Run(t.Context(), parse(t, c.from), to, convert.Options{})
		if err == nil || !strings.Contains(err.Error(), c.names) {
			t.Errorf("%s: %v, want an error that names %s", c.from, err, c.names)
		}
		wantOnly(t, filepath.Dir(to.Path))
	}
}

// TestDamagedBbolt truncates a file and changes bytes. A conversion may succeed if only free pages
// are damaged, and bbolt has no checksums to detect changed data, but it must end.
func TestDamagedBbolt(t *testing.T) {
	dir := t.TempDir()
	want := entries(300)
	source := locate(t, "pebble:%s/from", dir)
	fill(t, source, want)
	whole := filepath.Join(dir, "whole.db")
	run(t, source, parse(t, "bbolt:"+whole+"/b"), convert.Options{})
	image, err := os.ReadFile(whole)
	check(t, err)
	image = image[:wholePages(lastData(image))]
	damaged := parse(t, "bbolt:"+dir+"/damaged.db/b")
	to := parse(t, "pebble:"+dir+"/to")
	attempt := func(image []byte) error {
		check(t, os.WriteFile(damaged.Path, image, 0o600))
		_, err := convert.Run(t.Context(), damaged, to, convert.Options{Force: true})
		return err
	}
	for cut := 0; cut < len(image); cut += 4096 {
		if attempt(image[:cut]) == nil && !maps.Equal(contents(t, to), want) {
			t.Errorf("a file cut at %d of %d bytes gave other entries", cut, len(image))
		}
	}
	const seed = 3
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	noticed := 0
	for range 100 {
		spoilt := bytes.Clone(image)
		page := rng.IntN(len(image)/4096) * 4096
		spoilt[page+rng.IntN(64)] ^= byte(1 + rng.IntN(255)) // page header and first elements
		if attempt(spoilt) != nil {
			noticed++
		}
	}
	if noticed == 0 {
		t.Error("no damage was noticed")
	}
}

// TestPageThatNamesItself converts a file on which bbolt's own walk overflows the stack, which ends
// the process.
func TestPageThatNamesItself(t *testing.T) {
	dir := t.TempDir()
	source, file := locate(t, "pebble:%s/from", dir), dir+"/ring.db"
	fill(t, source, entries(2000))
	run(t, source, parse(t, "bbolt:"+file+"/b"), convert.Options{})
	image, err := os.ReadFile(file)
	check(t, err)
	rings := 0
	for at := 2 * os.Getpagesize(); at < len(image); at += os.Getpagesize() {
		if p := image[at:]; binary.LittleEndian.Uint16(p[8:]) == 1 { // a branch
			copy(p[16+8:], p[:8]) // its first child is itself
			rings++
		}
	}
	check(t, os.WriteFile(file, image, 0o600))
	for _, from := range []string{"bbolt:" + file, "bbolt:" + file + "/b"} {
		_, err = convert.Run(t.Context(), parse(t, from), locate(t, "nvkv:%s/to", t.TempDir()), convert.Options{})
		if !errors.Is(err, compat.ErrCorrupt) || rings == 0 {
			t.Errorf("%s, %d branches name themselves: %v", from, rings, err)
		}
	}
	_, err = convert.Run(t.Context(), source, parse(t, "bbolt:"+file+"/other"), convert.Options{})
	if !errors.Is(err, compat.ErrCorrupt) {
		t.Errorf("a bucket is added to it: %v", err)
	}
	if after, err := os.ReadFile(file); err != nil || !bytes.Equal(after, image) {
		t.Errorf("the file was changed, or: %v", err)
	}
}

// lastData returns the offset at which the zeros at the end of image begin.
func lastData(image []byte) int {
	return len(bytes.TrimRight(image, "\x00"))
}

func TestKeysThatADestinationCannotHold(t *testing.T) {
	for _, c := range []struct {
		to, key string
		want    error
	}{
		{"bbolt:%s/store.db/b", "", compat.ErrEmptyKey},
		{"bbolt:%s/store.db/b", strings.Repeat("k", bolt.MaxKeySize+1), compat.ErrKeyTooLarge},
		{"bbolt:%s/store.db", "no bucket", nil},
		{"bbolt:%s/store.db", "\x00\x01k", nil},
		{"bbolt:%s/store.db", "b\x00\x01k\x00", nil},
		{"bbolt:%s/store.db", "b\x00", nil},
		{"bbolt:%s/store.db", "b\x00\x02", nil},
		{"pebble:%s/store", "", compat.ErrEmptyKey},
	} {
		dir := t.TempDir()
		to := locate(t, c.to, dir)
		_, err := convert.Run(t.Context(), listed(entry{c.key, "v"}), to, convert.Options{})
		if err == nil || c.want != nil && !errors.Is(err, c.want) {
			t.Errorf("%.20q to %s: %v, want %v", c.key, c.to, err, c.want)
		}
		wantOnly(t, dir)
	}
	to := locate(t, "pebble:%s/store", t.TempDir())
	run(t, listed(entry{"", "v"}, entry{"a", "w"}), to, convert.Options{EmptyKey: []byte("(empty)")})
	if got := contents(t, to); !maps.Equal(got, map[string]string{"(empty)": "v", "a": "w"}) {
		t.Errorf("renamed: %q", got)
	}
}

func TestNameIsBothKeyAndBucket(t *testing.T) {
	for _, source := range []convert.Location{
		listed(entry{"b\x00\x01x", "key"}, entry{"b\x00\x01x\x00\x01k", "in a bucket"}),
		listed(entry{"b\x00\x01x\x00\x01k", "in a bucket"}, entry{"b\x00\x01x", "key"}),
	} {
		_, err := convert.Run(t.Context(), source, locate(t, "bbolt:%s/store.db", t.TempDir()), convert.Options{})
		if err == nil || !strings.Contains(err.Error(), "same name") {
			t.Errorf("error %v, want one of the name", err)
		}
	}
}

func TestUnorderedSource(t *testing.T) {
	want := entries(500)
	var list []entry
	for key, value := range want { // in random order
		list = append(list, entry{key, value})
	}
	for _, to := range flat {
		destination := locate(t, to, t.TempDir())
		run(t, listed(list...), destination, convert.Options{})
		if got := contents(t, destination); !maps.Equal(got, want) {
			t.Errorf("%s: other entries than written", to)
		}
		dir := t.TempDir()
		_, err := convert.Run(t.Context(), listed(append(list, list[0])...), locate(t, to, dir), convert.Options{})
		if err == nil || !strings.Contains(err.Error(), "twice") {
			t.Errorf("%s: a key that occurs twice: %v", to, err)
		}
		wantOnly(t, dir)
	}
}

// TestVerificationNotices converts to sinks that change their entries.
func TestVerificationNotices(t *testing.T) {
	for name, spoil := range map[string]func(i int, key, value []byte) (k, v []byte, keep bool){
		"entry lost": func(i int, k, v []byte) ([]byte, []byte, bool) { return k, v, i != 70 },
		"last lost":  func(i int, k, v []byte) ([]byte, []byte, bool) { return k, v, i != 99 },
		"value changed": func(i int, k, v []byte) ([]byte, []byte, bool) {
			return k, append(bytes.Clone(v), 'x')[min(i/99, 1):], true
		},
		"key changed": func(i int, k, v []byte) ([]byte, []byte, bool) {
			return append(k, bytes.Repeat([]byte("x"), i/99)...), v, true
		},
		"bytes moved": func(i int, k, v []byte) ([]byte, []byte, bool) { return append(k, v[:1]...), v[1:], true },
	} {
		t.Run(name, func(t *testing.T) {
			var list []entry
			for i := range 100 {
				list = append(list, entry{fmt.Sprintf("%04d", i), fmt.Sprint("value ", i)})
			}
			dir := t.TempDir()
			to := locate(t, "pebble:%s/to", dir)
			create := to.Format.Create
			to.Format.Create = func(l convert.Location, force bool) (convert.Sink, error) {
				sink, err := create(l, force)
				return &spoiler{Sink: sink, spoil: spoil}, err
			}
			if _, err := convert.Run(t.Context(), listed(list...), to, convert.Options{}); err == nil || !strings.Contains(err.Error(), "verify") {
				t.Errorf("error %v, want one of the verification", err)
			}
			wantOnly(t, dir)
		})
	}
}

type spoiler struct {
	convert.Sink
	spoil func(i int, key, value []byte) (k, v []byte, keep bool)
	i     int
}

func (s *spoiler) Put(key, value []byte) error {
	key, value, keep := s.spoil(s.i, bytes.Clone(key), value)
	s.i++
	if !keep {
		return nil
	}
	return s.Sink.Put(key, value)
}

func TestCancelLeavesNothing(t *testing.T) {
	source := locate(t, "pebble:%s/from", t.TempDir())
	fill(t, source, entries(5000))
	for _, phase := range []string{"copy", "verify"} {
		dir := t.TempDir()
		ctx, cancel := context.WithCancel(t.Context())
		progress := func(p convert.Progress) {
			if p.Phase == phase && p.Done > 0 {
				cancel()
			}
		}
		_, err := convert.Run(ctx, source, locate(t, "pebble:%s/to", dir), convert.Options{Progress: progress})
		if !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled in %s: %v", phase, err)
		}
		wantOnly(t, dir)
	}
}

func TestProgress(t *testing.T) {
	from := locate(t, "bbolt:%s/from.db/b", t.TempDir())
	run(t, listed(sortedEntries(5000)...), from, convert.Options{})
	last := make(map[string]convert.Progress)
	opts := convert.Options{Progress: func(p convert.Progress) {
		if p.Done < last[p.Phase].Done {
			t.Errorf("%v after %v", p, last[p.Phase])
		}
		last[p.Phase] = p
	}}
	run(t, from, locate(t, "nvkv:%s/to", t.TempDir()), opts)
	for _, phase := range []string{"copy", "verify"} {
		if want := (convert.Progress{Phase: phase, Done: 5000, Total: 5000}); last[phase] != want {
			t.Errorf("last of %s: %v, want %v", phase, last[phase], want)
		}
	}
}

func sortedEntries(n int) []entry {
	list := make([]entry, n)
	for i := range list {
		list[i] = entry{fmt.Sprintf("%08d", i), "v"}
	}
	return list
}

func TestForcedFileKeepsItsMode(t *testing.T) {
	to := locate(t, "bbolt:%s/to.db", t.TempDir())
	source := listed(entry{"b\x00\x01k", "v"})
	run(t, source, to, convert.Options{})
	check(t, os.Chmod(to.Path, 0o640))
	run(t, source, to, convert.Options{Force: true})
	info, err := os.Stat(to.Path)
	check(t, err)
	if info.Mode().Perm() != 0o640 {
		t.Errorf("mode %v, want 0640", info.Mode().Perm())
	}
}

// entry is a key with its value.
type entry struct{ key, value string }

// listed returns a source that yields a list in its order.
func listed(list ...entry) convert.Location {
	open := func(convert.Location) (convert.Source, error) { return listSource(list), nil }
	return convert.Location{Format: convert.Format{Name: "list", Open: open}}
}

type listSource []entry

func (s listSource) Each(ctx context.Context, fn func(key, value []byte) error) error {
	for _, e := range s {
		if err := errors.Join(ctx.Err(), fn([]byte(e.key), []byte(e.value))); err != nil {
			return err
		}
	}
	return nil
}

func (s listSource) Count() int64 { return int64(len(s)) }
func (s listSource) Close() error { return nil }

func parse(t *testing.T, text string) convert.Location {
	t.Helper()
	l, err := convert.Parse(text, convert.Formats())
	check(t, err)
	return l
}

func locate(t *testing.T, pattern, dir string) convert.Location {
	t.Helper()
	return parse(t, fmt.Sprintf(pattern, dir))
}

// fill adds entries to the store at l, and makes it if it does not exist.
func fill(t *testing.T, l convert.Location, all map[string]string) {
	t.Helper()
	sink, err := l.Format.Create(l, true)
	check(t, err)
	for _, key := range slices.Sorted(maps.Keys(all)) {
		check(t, sink.Put([]byte(key), []byte(all[key])))
	}
	check(t, sink.Finish())
}

func contents(t *testing.T, l convert.Location) map[string]string {
	t.Helper()
	source, err := l.Format.Open(l)
	check(t, err)
	defer source.Close()
	all := make(map[string]string)
	check(t, source.Each(t.Context(), func(key, value []byte) error {
		all[string(key)] = string(value)
		return nil
	}))
	return all
}

func run(t *testing.T, from, to convert.Location, opts convert.Options) convert.Result {
	t.Helper()
	result, err := convert.Run(t.Context(), from, to, opts)
	if err != nil {
		t.Fatalf("%v to %v: %v", from, to, err)
	}
	return result
}

// wantOnly checks that dir contains only the named files.
func wantOnly(t *testing.T, dir string, names ...string) {
	t.Helper()
	found, err := os.ReadDir(dir)
	check(t, err)
	got := make([]string, len(found))
	for i, f := range found {
		got[i] = f.Name()
	}
	if !slices.Equal(got, names) {
		t.Errorf("%s holds %q, want %q", dir, got, names)
	}
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
