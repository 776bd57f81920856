package kv

import (
	"bytes"
	"compress/gzip"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"nvkv/internal/effort"
)

// release makes the stores of a version that is about to be released:
//
//	go test ./kv -run TestReleasedStores -release 0.2.0
var release = flag.String("release", "", "write the stores of this version to testdata/released; it must not have any")

const releasedDir = "testdata/released"

// releasedFiles are the files of a version: a store that was closed, one whose process was killed,
// and a backup. All hold what releasedContent says.
var releasedFiles = []string{"closed.nv.gz", "killed.nv.gz", "backup.nvb.gz"}

// TestReleasedStores opens the stores of every released version, read-only and for writing, and
// restores its backup. A version is released if CHANGELOG.md has a heading for it. The files are never
// changed once their version is out.
func TestReleasedStores(t *testing.T) {
	if *release != "" {
		writeReleased(t, *release)
	}
	text, err := os.ReadFile("../CHANGELOG.md")
	must(t, err)
	versions := regexp.MustCompile(`(?m)^## (\d+\.\d+\.\d+)`).FindAllStringSubmatch(string(text), -1)
	if len(versions) == 0 {
		t.Fatal("CHANGELOG.md names no version")
	}
	for _, v := range versions {
		for _, name := range releasedFiles {
			t.Run(v[1]+"/"+name, func(t *testing.T) { checkReleased(t, filepath.Join(releasedDir, v[1], name)) })
		}
	}
}

// releasedContent puts records of every kind into a store, and returns what it holds then. It must
// not change: the released stores hold this.
func releasedContent(t *testing.T, db *DB) model {
	t.Helper()
	want := model{}
	put := func(k, v string) { t.Helper(); must(t, db.Put([]byte(k), []byte(v))); want[k] = v }
	put("", "the empty key")
	for i := range 500 {
		put(fmt.Sprintf("key %03d", i), strings.Repeat("value ", i%40))
	}
	for i := 100; i < 200; i += 3 {
		k := fmt.Sprintf("key %03d", i)
		must(t, db.Delete([]byte(k)))
		delete(want, k)
	}
	must(t, db.PutUntil([]byte("expires"), []byte("in 2100"), time.Unix(4102444800, 0)))
	want["expires"] = "in 2100"
	put("in pages", strings.Repeat("page ", 20_000))
	put(strings.Repeat("long key ", 1000), "a chain of pages")
	must(t, db.Checkpoint(t.Context()))
	b := db.NewBatch()
	for i := range 20 {
		k := fmt.Sprintf("batch %d", i)
		b.Put([]byte(k), []byte("written together"))
		want[k] = "written together"
	}
	must(t, db.Write(b))
	must(t, db.DeleteRange([]byte("key 300"), []byte("key 350")))
	for i := 300; i < 350; i++ {
		delete(want, fmt.Sprintf("key %03d", i))
	}
	put("key 320", "newer than the range")
	must(t, db.Update(func(tx *Tx) error {
		want["key 000"] = "changed in a transaction"
		delete(want, "key 001")
		must(t, tx.Put([]byte("key 000"), []byte("changed in a transaction")))
		return tx.Delete([]byte("key 001"))
	}))
	return want
}

// writeReleased writes the files of a version.
func writeReleased(t *testing.T, version string) {
	t.Helper()
	dir := filepath.Join(releasedDir, version)
	must(t, os.MkdirAll(releasedDir, 0o755))
	must(t, os.Mkdir(dir, 0o755)) // fails if the version has its stores
	path := filepath.Join(effort.Dir(t), "store")
	db, err := Open(path, nil)
	must(t, err)
	releasedContent(t, db)
	write := func(name string, content []byte) {
		t.Helper()
		var packed bytes.Buffer
		z, err := gzip.NewWriterLevel(&packed, gzip.BestCompression)
		must(t, err)
		_, err = z.Write(content)
		must(t, err)
		must(t, z.Close())
		must(t, os.WriteFile(filepath.Join(dir, name), packed.Bytes(), 0o644))
	}
	var backup bytes.Buffer
	_, err = db.Backup(t.Context(), &backup)
	must(t, err)
	write(releasedFiles[2], backup.Bytes())
	write(releasedFiles[1], bytes.Clone(db.m.View(0, int(db.m.Size()))))
	must(t, db.Close())
	closed, err := os.ReadFile(path)
	must(t, err)
	write(releasedFiles[0], closed)
}

// checkReleased unpacks a file and opens or restores it.
func checkReleased(t *testing.T, packed string) {
	f, err := os.Open(packed)
	must(t, err)
	defer f.Close()
	z, err := gzip.NewReader(f)
	must(t, err)
	content, err := io.ReadAll(z)
	must(t, err)
	path := filepath.Join(effort.Dir(t), "store")
	if strings.HasSuffix(packed, ".nvb.gz") {
		must(t, Restore(t.Context(), path, bytes.NewReader(content), nil))
	} else {
		must(t, os.WriteFile(path, content, 0o600))
	}
	mem := openTest(t, "", &Options{Device: "mem"})
	want := releasedContent(t, mem)
	want.compare(t, mem)

	for _, readOnly := range []bool{true, false} {
		db, err := Open(path, &Options{ReadOnly: readOnly})
		must(t, err)
		want.compare(t, db)
		if at, err := db.Expiry([]byte("expires")); err != nil || at.Unix() != 4102444800 {
			t.Errorf("expires at %v, %v", at, err)
		}
		must(t, db.Check(t.Context(), func(i CheckIssue) { t.Errorf("%v", i) }))
		if n := db.Metrics().RecordsReplayed; strings.Contains(packed, "killed") != (n > 0) {
			t.Errorf("%s: %d records were replayed", packed, n)
		}
		if !readOnly {
			must(t, db.Put([]byte("new"), []byte("written by this version")))
			want["new"] = "written by this version"
		}
		must(t, db.Close())
	}
	db, err := Open(path, nil)
	must(t, err)
	want.compare(t, db)
	must(t, db.Close())
}
