//go:build unix

package kv

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestFileMode: a new file has the requested mode, a copy has the mode of its source, and by
// default only the owner has access.
func TestFileMode(t *testing.T) {
	defer syscall.Umask(syscall.Umask(0o022))
	dir := testDir(t)
	modeOf := func(path string) fs.FileMode {
		fi, err := os.Stat(path)
		must(t, err)
		return fi.Mode()
	}
	for _, c := range []struct{ asked, want fs.FileMode }{{0, 0o600}, {0o640, 0o640}, {0o666, 0o644}} {
		path := filepath.Join(dir, c.asked.String())
		db, err := Open(path, &Options{FileMode: c.asked})
		must(t, err)
		must(t, db.Put([]byte("k"), []byte("v")))
		var backup bytes.Buffer
		_, err = db.Backup(context.Background(), &backup)
		must(t, errors.Join(err, db.Close()))
		if got := modeOf(path); got != c.want {
			t.Errorf("asked for %v: %v, want %v", c.asked, got, c.want)
		}
		must(t, Restore(context.Background(), path+".r", &backup, &Options{FileMode: c.asked}))
		if got := modeOf(path + ".r"); got != c.want {
			t.Errorf("restored, asked for %v: %v, want %v", c.asked, got, c.want)
		}
	}
	db := openMem(t)
	for _, mode := range []fs.FileMode{0o400, 0o640, 0o664} {
		path := filepath.Join(dir, "backup"+mode.String())
		f, err := os.Create(path)
		must(t, err)
		_, err = db.Backup(context.Background(), f)
		must(t, errors.Join(err, f.Chmod(mode)))
		_, err = f.Seek(0, 0)
		must(t, errors.Join(err, Restore(context.Background(), path+".r", f, nil), f.Close()))
		if got := modeOf(path + ".r"); got != mode|0o600 {
			t.Errorf("restored of a file of mode %v: %v", mode, got)
		}
	}
	for mode, says := range map[fs.FileMode]string{fs.ModeDir | 0o700: "020000000700, of which 020000000000 are", 0o4640: "04640, of which 04000 are"} {
		if _, err := Open(filepath.Join(dir, "odd"), &Options{FileMode: mode}); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("mode %v: %v, want it to say %q", mode, err, says)
		}
	}
}
