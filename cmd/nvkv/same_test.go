package main

import (
	"os"
	"path/filepath"
	"testing"
)

// TestOutputThatIsTheInput checks that no command replaces its own input, under any name and even
// with --force.
func TestOutputThatIsTheInput(t *testing.T) {
	store := newStore(t, "a", "1", "b", "2")
	want := must(t, "dump", store)
	dir := t.TempDir()
	soft, hard, pebble := filepath.Join(dir, "soft"), filepath.Join(dir, "hard"), filepath.Join(dir, "pebble")
	if err := os.Symlink(store, soft); err != nil {
		t.Fatal(err)
	}
	if err := os.Link(store, hard); err != nil {
		t.Fatal(err)
	}
	must(t, "convert", "--from", "nvkv:"+store, "--to", "pebble:"+pebble)
	inside := filepath.Join(pebble, "inside.nv")
	must(t, "convert", "--from", "nvkv:"+store, "--to", "nvkv:"+inside)
	for _, same := range []string{store, soft, hard} {
		for _, args := range [][]string{
			{"backup", store, same, "--force"}, {"backup", same, store, "--force"}, {"restore", store, same}, {"restore", same, store},
			{"convert", "--force", "--from", "nvkv:" + store, "--to", "nvkv:" + same}, {"convert", "--force", "--from", "nvkv:" + same, "--to", "nvkv:" + store},
			{"convert", "--force", "--from", "nvkv:" + store, "--to", "jsonl:" + same}, {"convert", "--force", "--from", "lines:" + same, "--to", "nvkv:" + store},
			{"convert", "--force", "--from", "nvkv:" + store, "--to", "bbolt:" + same}, {"salvage", store, same}, {"load", store, same, "--format", "lines"},
		} {
			fails(t, exitFailed, []string{same}, args...)
		}
	}
	fails(t, exitFailed, []string{pebble}, "convert", "--force", "--from", "nvkv:"+inside, "--to", "pebble:"+pebble)
	if got := must(t, "dump", store); got != want {
		t.Errorf("the store holds %q, want %q", got, want)
	}
	if got := must(t, "dump", inside); got != want {
		t.Errorf("the store in the directory holds %q, want %q", got, want)
	}
}

// TestBackupReplacesFilesOnly checks that a backup replaces only regular files.
func TestBackupReplacesFilesOnly(t *testing.T) {
	store := newStore(t, "a", "1")
	dir := t.TempDir()
	fails(t, exitFailed, []string{dir, "directory"}, "backup", store, dir, "--force")
	null := filepath.Join(dir, "null")
	if err := os.Symlink(os.DevNull, null); err != nil {
		t.Fatal(err)
	}
	fails(t, exitFailed, []string{null, "no regular file"}, "backup", store, null, "--force")
	if _, err := os.Stat(null); err != nil {
		t.Error(err)
	}
}
