package kv

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"nvkv/kv/internal/backup"
)

// backupOf returns a store's backup.
func backupOf(t testing.TB, db *DB) []byte {
	t.Helper()
	var b bytes.Buffer
	n, err := db.Backup(context.Background(), &b)
	if err != nil || n != int64(b.Len()) {
		t.Fatalf("Backup = %d, %v; %d bytes written", n, err, b.Len())
	}
	return b.Bytes()
}

// expiries returns the expiry of each key, from the records.
func expiries(t testing.TB, db *DB) map[string]int64 {
	t.Helper()
	tx, err := db.Begin(false)
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback()
	out := map[string]int64{}
	if err := tx.eachRecord(func(it *item) error { out[string(it.Key)] = it.expiry; return nil }); err != nil {
		t.Fatal(err)
	}
	return out
}

// backupStore returns a store with keys and values of every kind.
func backupStore(t testing.TB, path string) *DB {
	t.Helper()
	db := openTest(t, path, nil)
	rng := rand.New(rand.NewPCG(1, 1))
	put := func(k string, n int) {
		v := make([]byte, n)
		for i := range v {
			v[i] = byte(rng.Uint32())
		}
		if err := db.Put([]byte(k), v); err != nil {
			t.Fatal(err)
		}
	}
	put("", 3)
	put("empty", 0)
	put(strings.Repeat("k", MaxKeyBytes), 10)
	put(strings.Repeat("l", 5000), 100_000)
	put("large", 3*backup.ChunkBytes+17)
	for i := range 3000 {
		put(fmt.Sprintf("key/%05d", i*7919%3000), rng.IntN(300))
	}
	for i := range 100 {
		if err := db.PutTTL(fmt.Appendf(nil, "ttl/%03d", i), []byte("kept"), time.Hour+time.Duration(i)); err != nil {
			t.Fatal(err)
		}
	}
	putExpired(t, db, "gone", []byte("x"))
	return db
}

func TestBackupRestore(t *testing.T) {
	dir := testDir(t)
	db := backupStore(t, filepath.Join(dir, "a"))
	want, err := contents(db)
	if err != nil {
		t.Fatal(err)
	}
	var told []Progress
	db.opt.Progress = func(p Progress) { told = append(told, p) }
	stream := backupOf(t, db)
	db.opt.Progress = nil
	if p := told[len(told)-1]; p.Op != "backup" || p.Done != int64(len(want)) || p.Total < p.Done || p.Bytes != int64(len(stream)) {
		t.Errorf("at the end the progress is %+v, want %d keys and %d bytes done", p, len(want), len(stream))
	}
	told = nil
	in := bytes.NewReader(stream)
	path := filepath.Join(dir, "b")
	if err := Restore(context.Background(), path, in, &Options{Progress: func(p Progress) { told = append(told, p) }}); err != nil {
		t.Fatal(err)
	}
	again := openTest(t, path, nil)
	if err := holds(again, want); err != nil {
		t.Error(err)
	}
	was, is := expiries(t, db), expiries(t, again)
	for k, at := range was {
		if is[k] != at {
			t.Errorf("%s expires at %d, was %d", shortKey(k), is[k], at)
		}
	}
	if _, ok := want["gone"]; ok || len(was) != len(is) {
		t.Errorf("%d records restored of %d; an expired one is among them: %v", len(is), len(was), ok)
	}
	last := told[len(told)-1]
	if last.Op != "restore" || last.Done != int64(len(want)) || last.Total < last.Done {
		t.Errorf("at the end the progress is %+v, want %d keys done", last, len(want))
	}
	if twice := backupOf(t, again); len(twice) != len(stream) {
		t.Errorf("the backup of the restored store has %d bytes, the first had %d", len(twice), len(stream))
	}
	left(t, dir, "a", "b")
}

// left fails unless a directory contains exactly these names.
func left(t testing.TB, dir string, names ...string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var have []string
	for _, e := range entries {
		have = append(have, e.Name())
	}
	if fmt.Sprint(have) != fmt.Sprint(names) {
		t.Errorf("in the directory: %q, want %q", have, names)
	}
}

func TestBackupOfNothing(t *testing.T) {
	dir := testDir(t)
	stream := backupOf(t, openTest(t, filepath.Join(dir, "a"), nil))
	if want := backup.HeaderBytes + 24; len(stream) != want {
		t.Errorf("%d bytes, want %d", len(stream), want)
	}
	path := filepath.Join(dir, "b")
	if err := Restore(context.Background(), path, bytes.NewReader(stream), nil); err != nil {
		t.Fatal(err)
	}
	if err := holds(openTest(t, path, nil), model{}); err != nil {
		t.Error(err)
	}
}

// A backup shows one instant: writes meanwhile are not in it.
func TestBackupBesideWriters(t *testing.T) {
	dir := testDir(t)
	db := backupStore(t, filepath.Join(dir, "a"))
	want, err := contents(db)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	i := 0
	_, err = db.Backup(context.Background(), writerFunc(func(p []byte) (int, error) {
		for range 200 {
			k := fmt.Appendf(nil, "key/%05d", i*7919%3000)
			if i++; i%3 == 0 {
				err = db.Delete(k)
			} else {
				err = db.Put(k, []byte("later"))
			}
			if err != nil {
				t.Error(err)
			}
		}
		return b.Write(p)
	}))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "b")
	if err := Restore(context.Background(), path, &b, nil); err != nil {
		t.Fatal(err)
	}
	if err := holds(openTest(t, path, nil), want); err != nil {
		t.Error(err)
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

func TestBackupEndsEarly(t *testing.T) {
	db := backupStore(t, filepath.Join(testDir(t), "a"))
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	n := 0
	_, err := db.Backup(ctx, writerFunc(func(p []byte) (int, error) {
		if n++; n == 2 {
			cancel()
		}
		return len(p), nil
	}))
	if !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	broken := errors.New("pipe")
	written, err := db.Backup(context.Background(), writerFunc(func(p []byte) (int, error) { return 5, broken }))
	if !errors.Is(err, broken) || written != 5 {
		t.Errorf("a writer that fails: %d, %v", written, err)
	}
	if m := db.Metrics(); m.Snapshots != 0 {
		t.Errorf("%d snapshots left open", m.Snapshots)
	}
	_, err = db.Backup(context.Background(), writerFunc(func(p []byte) (int, error) { go db.Close(); return len(p), waitClosed(db) }))
	if !errors.Is(err, ErrClosed) {
		t.Errorf("closed meanwhile: %v", err)
	}
	if _, err := db.Backup(context.Background(), io.Discard); !errors.Is(err, ErrClosed) {
		t.Errorf("closed before: %v", err)
	}
}

func waitClosed(db *DB) error {
	for !db.closed.Load() {
		time.Sleep(time.Millisecond)
	}
	return nil
}
