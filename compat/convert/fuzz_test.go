package convert_test

import (
	"bytes"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"testing"

	"nvkv/compat"
	"nvkv/compat/convert"
)

// FuzzConvert converts arbitrary entries from an nvkv store to another format and back. They must
// be unchanged, or the error must name an entry that the format cannot hold. The first byte of the
// input selects the format. Entries follow, each a byte for the length of its key, one for that of
// its value, and both.
func FuzzConvert(f *testing.F) {
	for kind := range byte(3) {
		f.Add([]byte{kind, 1, 1, 'a', '1', 2, 0, 'b', 0})
		f.Add([]byte{kind, 0, 3, 'x', 'y', 'z', 3, 1, 0, 1, 0xff, 'v', 3, 1, 0, 1, 0xff, 'w'})
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		if len(in) == 0 || len(in) > 4096 {
			return
		}
		pattern := []string{"bbolt:%s/through.db/bucket", "pebble:%s/through", "nvkv:%s/through.nvkv"}[in[0]%3]
		want := decodeEntries(in[1:])
		dir := t.TempDir()
		from, through, back := locate(t, "nvkv:%s/from.nvkv", dir), locate(t, pattern, dir), locate(t, "nvkv:%s/back.nvkv", dir)
		fill(t, from, want)
		result, err := convert.Run(t.Context(), from, through, convert.Options{})
		if _, empty := want[""]; errors.Is(err, compat.ErrEmptyKey) && empty {
			return
		}
		if err != nil || result.Entries != int64(len(want)) {
			t.Fatalf("%d of %d entries went to %v: %v", result.Entries, len(want), through, err)
		}
		again := run(t, through, back, convert.Options{})
		if again.Checksum != result.Checksum || !maps.Equal(contents(t, back), want) {
			t.Fatalf("%d entries came back from %v otherwise", len(want), through)
		}
	})
}

// decodeEntries reads arbitrary bytes as entries. The last entry of a key counts.
func decodeEntries(in []byte) map[string]string {
	all := map[string]string{}
	for len(in) >= 2 {
		k, v := int(in[0]), int(in[1])
		if len(in) < 2+k+v {
			break
		}
		all[string(in[2:2+k])] = string(in[2+k : 2+k+v])
		in = in[2+k+v:]
	}
	return all
}

// FuzzBbolt converts a bbolt file with changed bytes, which may be truncated. The conversion must
// end, with an error or with entries that it cannot distinguish from real ones. The input is
// places, two bytes each as a share of the file, and the bytes to put there.
func FuzzBbolt(f *testing.F) {
	dir := f.TempDir()
	whole := filepath.Join(dir, "whole.db")
	image := bboltImage(f, whole)
	f.Add([]byte{0, 0, 1, 4, 0, 2})
	f.Add([]byte{64, 0, 255, 128, 9, 1, 200, 200, 3})
	f.Add([]byte{255, 255, 0, 130, 0, 0x80})
	f.Fuzz(func(t *testing.T, in []byte) {
		if len(in) > 300 {
			return
		}
		bad := bytes.Clone(image)
		for ; len(in) >= 3; in = in[3:] {
			bad[(int(in[0])<<8|int(in[1]))*len(bad)>>16] ^= in[2]
		}
		if len(in) == 2 {
			bad = bad[:(int(in[0])<<8|int(in[1]))*len(bad)>>16]
		}
		from, to := locate(t, "bbolt:%s/bad.db/b", t.TempDir()), locate(t, "nvkv:%s/to.nvkv", t.TempDir())
		check(t, os.WriteFile(from.Path, bad, 0o600))
		if result, err := convert.Run(t.Context(), from, to, convert.Options{}); err == nil && int64(len(contents(t, to))) != result.Entries {
			t.Fatalf("%d entries converted, %d are there", result.Entries, len(contents(t, to)))
		}
	})
}

// bboltImage makes a file of a few pages and returns its bytes.
func bboltImage(f *testing.F, path string) []byte {
	f.Helper()
	l, err := convert.Parse("bbolt:"+path+"/b", convert.Formats())
	if err != nil {
		f.Fatal(err)
	}
	sink, err := l.Format.Create(l, true)
	if err != nil {
		f.Fatal(err)
	}
	for key, value := range map[string]string{"a": "1", "b": "two", "\x00\xff": ""} {
		if err := sink.Put([]byte(key), []byte(value)); err != nil {
			f.Fatal(err)
		}
	}
	if err := sink.Finish(); err != nil {
		f.Fatal(err)
	}
	image, err := os.ReadFile(path)
	if err != nil {
		f.Fatal(err)
	}
	return image[:wholePages(lastData(image))]
}

// wholePages rounds n up to the end of a page.
func wholePages(n int) int {
	size := os.Getpagesize()
	return (n + size - 1) / size * size
}
