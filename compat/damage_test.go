package compat_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/cockroachdb/pebble/v2"

	"nvkv/compat"
)

// TestDamagedStore truncates the files of a store and changes bytes. Open must return. If the
// engine has checksums, each later call must return a stored value or an error.
func TestDamagedStore(t *testing.T) {
	want := make(map[string]string)
	for i := range 200 {
		want[fmt.Sprint(i)] = string(bytes.Repeat([]byte{byte(i)}, i*7%400))
	}
	forEachEngine(t, func(t *testing.T, name string) {
		const seed = 5
		t.Logf("seed %d", seed)
		rng := rand.New(rand.NewPCG(seed, 0))
		dir := fastDir(t)
		whole := filepath.Join(dir, "whole")
		build(t, name, whole, want)
		for round := range 40 {
			damaged := filepath.Join(dir, fmt.Sprint(round))
			check(t, os.CopyFS(damaged, os.DirFS(whole)))
			what := damage(t, rng, damaged)
			if err := readDamaged(name, damaged, want); err != nil {
				t.Errorf("%s: %v", what, err)
			}
			check(t, os.RemoveAll(damaged))
		}
	})
}

func build(t *testing.T, name, dir string, all map[string]string) {
	t.Helper()
	e, err := compat.Open(name, dir, compat.Options{Pebble: smallPebble})
	check(t, err)
	for i, key := range slices.Sorted(maps.Keys(all)) {
		check(t, e.Put([]byte(key), []byte(all[key])))
		if i == len(all)/2 {
			check(t, e.Flush()) // so that pebble has tables and a log
		}
	}
	check(t, e.Close())
}

// damage damages one file below dir and describes the damage.
func damage(t *testing.T, rng *rand.Rand, dir string) string {
	t.Helper()
	var files []string
	check(t, filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if info, statErr := entry.Info(); statErr == nil && info.Mode().IsRegular() && info.Size() > 0 {
			files = append(files, path)
		}
		return err
	}))
	file := files[rng.IntN(len(files))]
	image, err := os.ReadFile(file)
	check(t, err)
	data := max(1, len(bytes.TrimRight(image, "\x00"))) // the rest is reserved space
	at := rng.IntN(data)
	if rng.IntN(3) == 0 {
		check(t, os.Truncate(file, int64(at)))
		return fmt.Sprintf("%s cut at %d", filepath.Base(file), at)
	}
	image[at] ^= byte(1 + rng.IntN(255))
	check(t, os.WriteFile(file, image, 0o600))
	return fmt.Sprintf("%s changed at %d", filepath.Base(file), at)
}

// readDamaged opens a damaged store. It returns an error if the store has an entry that was never
// stored.
func readDamaged(name, dir string, want map[string]string) error {
	e, err := compat.Open(name, dir, compat.Options{Pebble: func(o *pebble.Options) {
		smallPebble(o)
		o.DisableAutomaticCompactions = true // a compaction over damage would end the process
	}})
	if err != nil {
		return nil // the damage was detected
	}
	defer e.Close() // may fail because of the damage
	if slices.Contains(compat.Exceptions(e), compat.DamageMayPanic) {
		return nil
	}
	var wrong error
	err = e.Scan(nil, -1, func(key, value []byte) bool {
		if want[string(key)] != string(value) {
			wrong = fmt.Errorf("key %q has the value %q", key, value)
		}
		return wrong == nil
	})
	if err != nil && !errors.Is(err, compat.ErrCorrupt) {
		return fmt.Errorf("scan: %w, want ErrCorrupt", err)
	}
	return wrong
}
