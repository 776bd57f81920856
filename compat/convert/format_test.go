package convert

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	t.Chdir(t.TempDir())
	for _, dir := range []string{"dir", "dir/inner"} {
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile("dir/file", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	here, err := filepath.Abs(".")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ text, path, bucket string }{
		{"pebble:dir/any/thing", "dir/any/thing", ""},
		{"bbolt:dir/file", "dir/file", ""},
		{"bbolt:dir/file/b", "dir/file", "b"},
		{"bbolt:dir/file/b/c", "dir/file", "b c"},
		{"bbolt:dir/new", "dir/new", ""},
		{"bbolt:dir/new/b", "dir/new", "b"},
		{"bbolt:dir/inner/new/b/c", "dir/inner/new", "b c"},
		{"bbolt:new/b", "new", "b"},
		{"bbolt:" + here + "/dir/file/b", here + "/dir/file", "b"},
		{"bbolt:dir/file/a%2Fb/%00", "dir/file", "a/b \x00"},
		{"bbolt:file:with:colons", "file:with:colons", ""},
	} {
		l, err := Parse(c.text, Formats())
		if err != nil {
			t.Errorf("%s: %v", c.text, err)
			continue
		}
		var names []string
		for _, name := range l.Bucket {
			names = append(names, string(name))
		}
		if l.Path != c.path || strings.Join(names, " ") != c.bucket {
			t.Errorf("%s: path %q, bucket %q; want %q, %q", c.text, l.Path, names, c.path, c.bucket)
		}
		if again, err := Parse(l.String(), Formats()); err != nil || again.String() != l.String() {
			t.Errorf("%s is shown as %s, which reads as %v, %v", c.text, l, again, err)
		}
	}
	for _, bad := range []string{"", "path", "bbolt", "bbolt:", "leveldb:path", "bbolt:dir/file/", "bbolt:dir/file/a//b", "bbolt:dir/file/%zz"} {
		if l, err := Parse(bad, Formats()); err == nil {
			t.Errorf("%q was read as %v", bad, l)
		}
	}
}
