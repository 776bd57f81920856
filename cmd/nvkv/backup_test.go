package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestBackupRestore(t *testing.T) {
	store := newStore(t, "a", "1", "b", "2", "", "empty")
	dir := t.TempDir()
	file, copied := filepath.Join(dir, "store.backup"), filepath.Join(dir, "copy.nv")
	if out := must(t, "backup", store, file); !strings.Contains(out, "3 records") {
		t.Errorf("backup reports %q", out)
	}
	if out := must(t, "restore", file, copied); !strings.Contains(out, "copy.nv: 3 records") {
		t.Errorf("restore reports %q", out)
	}
	if got, want := must(t, "dump", copied), must(t, "dump", store); got != want {
		t.Errorf("restored %q, want %q", got, want)
	}
	fails(t, exitFailed, []string{copied, "already"}, "restore", file, copied)
	fails(t, exitFailed, []string{file, "--force"}, "backup", store, file)
	must(t, "backup", store, file, "--force")
	if names, _ := filepath.Glob(filepath.Join(dir, "*")); len(names) != 2 {
		t.Errorf("left in the directory: %q", names)
	}
}

func TestBackupPipe(t *testing.T) {
	store := newStore(t, "a", "1")
	stream := must(t, "backup", store, "-")
	copied := filepath.Join(t.TempDir(), "copy.nv")
	mustIn(t, stream, "restore", "-", copied)
	if got := must(t, "get", copied, "a"); got != "1" {
		t.Errorf("restored %q", got)
	}
}

func TestBackupJSON(t *testing.T) {
	store := newStore(t, "a", "1", "b", "2")
	file := filepath.Join(t.TempDir(), "f")
	var r transferResult
	if err := json.Unmarshal([]byte(must(t, "backup", store, file, "--json")), &r); err != nil {
		t.Fatal(err)
	}
	if fi, err := os.Stat(file); err != nil || r.Bytes != fi.Size() || r.Keys != 2 || r.Path != file {
		t.Errorf("%+v; the file has %v, %v", r, fi.Size(), err)
	}
	if err := json.Unmarshal([]byte(must(t, "restore", file, filepath.Join(t.TempDir(), "s"), "--json")), &r); err != nil {
		t.Fatal(err)
	}
	if r.Keys != 2 || r.Bytes != 4 {
		t.Errorf("restore: %+v", r)
	}
	to := nvkv(t, "backup", store, "-", "--json")
	if err := json.Unmarshal([]byte(to.errOut), &r); err != nil || r.Keys != 2 || r.Bytes != int64(len(to.out)) {
		t.Errorf("backup to a pipe: %+v, %v", r, err)
	}
}

func TestRestoreDamaged(t *testing.T) {
	store := newStore(t, "a", "1")
	dir := t.TempDir()
	stream := []byte(must(t, "backup", store, "-"))
	target := filepath.Join(dir, "copy.nv")
	rotten := bytes.Clone(stream)
	rotten[80] ^= 1
	fails(t, exitFailed, []string{target, "at byte 64"}, "restore", newFile(t, "rotten", string(rotten)), target)
	fails(t, exitFailed, []string{target, "at byte 90"}, "restore", newFile(t, "cut", string(stream[:90])), target)
	fails(t, exitFailed, []string{"not a backup"}, "restore", newFile(t, "letter", "Dear reader, this is no backup."), target)
	fails(t, exitFailed, []string{"absent"}, "restore", filepath.Join(dir, "absent"), target)
	if names, err := os.ReadDir(dir); err != nil || len(names) > 0 {
		t.Errorf("left behind: %v, %v", names, err)
	}
}

func TestBackupInterrupted(t *testing.T) {
	store := newStore(t, "a", "1")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	dir := t.TempDir()
	for _, args := range [][]string{
		{"backup", store, filepath.Join(dir, "f")},
		{"restore", newFile(t, "f", must(t, "backup", store, "-")), filepath.Join(dir, "s")},
	} {
		if r := nvkvContext(ctx, "", args...); r.code != exitFailed || !strings.Contains(r.errOut, "interrupted") {
			t.Errorf("%q: exit %d, %q", args, r.code, r.errOut)
		}
	}
	if names, err := os.ReadDir(dir); err != nil || len(names) > 0 {
		t.Errorf("left behind: %v, %v", names, err)
	}
}
