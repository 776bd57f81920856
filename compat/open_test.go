package compat_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"nvkv/compat"
)

func TestOpenNamesTheKnownEngines(t *testing.T) {
	_, err := compat.Open("leveldb", t.TempDir(), compat.Options{})
	if err == nil {
		t.Fatal("opened an engine that does not exist")
	}
	for _, name := range compat.Names() {
		if !strings.Contains(err.Error(), name) {
			t.Errorf("%q does not name %s", err, name)
		}
	}
}

func TestOpenLockedStore(t *testing.T) {
	forEachEngine(t, func(t *testing.T, name string) {
		dir := t.TempDir()
		open(t, name, dir, compat.Options{})
		if _, err := compat.Open(name, dir, compat.Options{}); !errors.Is(err, compat.ErrLocked) {
			t.Fatalf("second open: %v, want ErrLocked", err)
		}
	})
}

func TestOpenOverAForeignFile(t *testing.T) {
	forEachEngine(t, func(t *testing.T, name string) {
		dir := t.TempDir()
		path := compat.Path(name, dir)
		foreign := []byte(strings.Repeat("not a store of any kind\n", 4096))
		if err := os.WriteFile(path, foreign, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := compat.Open(name, dir, compat.Options{}); err == nil || !strings.Contains(err.Error(), path) {
			t.Fatalf("open: %v, want an error that names %s", err, path)
		}
		if got, err := os.ReadFile(path); err != nil || string(got) != string(foreign) {
			t.Fatalf("the foreign file was changed (%v)", err)
		}
	})
}

func TestReadOnly(t *testing.T) {
	forEachEngine(t, func(t *testing.T, name string) {
		dir := t.TempDir()
		if _, err := compat.Open(name, filepath.Join(dir, "absent"), compat.Options{ReadOnly: true}); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("read-only open of an absent store: %v, want ErrNotExist", err)
		}
		e := open(t, name, dir, compat.Options{})
		check(t, e.Put([]byte("k"), []byte("v")))
		check(t, e.Close())
		e = open(t, name, dir, compat.Options{ReadOnly: true})
		if v, err := e.Get(nil, []byte("k")); err != nil || string(v) != "v" {
			t.Errorf("Get: %q, %v", v, err)
		}
		if err := e.Put([]byte("k"), nil); !errors.Is(err, compat.ErrReadOnly) {
			t.Errorf("Put: %v, want ErrReadOnly", err)
		}
		if err := e.Delete([]byte("k")); !errors.Is(err, compat.ErrReadOnly) {
			t.Errorf("Delete: %v, want ErrReadOnly", err)
		}
		if err := e.WriteBatch([]compat.Op{{Key: []byte("k")}}); !errors.Is(err, compat.ErrReadOnly) {
			t.Errorf("WriteBatch: %v, want ErrReadOnly", err)
		}
		check(t, e.Flush())
	})
}

// forEachEngine runs test once per engine.
func forEachEngine(t *testing.T, test func(t *testing.T, name string)) {
	for _, name := range compat.Names() {
		t.Run(name, func(t *testing.T) { test(t, name) })
	}
}

// open opens an engine that is closed when the test ends.
func open(t *testing.T, name, dir string, opts compat.Options) compat.Engine {
	t.Helper()
	e, err := compat.Open(name, dir, opts)
	check(t, err)
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return e
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
