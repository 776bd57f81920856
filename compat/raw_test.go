package compat_test

import (
	"errors"
	"path/filepath"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	bolt "go.etcd.io/bbolt"

	"nvkv/compat"
)

// TestRawKeys writes with an adapter and reads with the engine itself.
func TestRawKeys(t *testing.T) {
	read := map[string]func(t *testing.T, path, key string) string{"bbolt": readBbolt, "pebble": readPebble}
	for name, readKey := range read {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "store")
			e, err := compat.OpenPath(name, path, compat.Options{RawKeys: true})
			check(t, err)
			check(t, e.Put([]byte{0}, []byte("zero")))
			check(t, e.WriteBatch([]compat.Op{{Key: []byte{0, 0}, Value: []byte("zeros")}, {Key: []byte("k"), Value: []byte("v")}}))
			if err := e.Put(nil, []byte("empty")); !errors.Is(err, compat.ErrEmptyKey) {
				t.Errorf("Put of the empty key: %v, want ErrEmptyKey", err)
			}
			if err := e.WriteBatch([]compat.Op{{Key: []byte("lost")}, {}}); !errors.Is(err, compat.ErrEmptyKey) {
				t.Errorf("batch with the empty key: %v, want ErrEmptyKey", err)
			}
			for key, want := range map[string]string{"\x00": "zero", "\x00\x00": "zeros", "k": "v"} {
				if got, err := e.Get(nil, []byte(key)); err != nil || string(got) != want {
					t.Errorf("Get(%q) = %q, %v", key, got, err)
				}
			}
			check(t, e.Close())
			for key, want := range map[string]string{"\x00": "zero", "\x00\x00": "zeros", "k": "v", "\x00\x00\x00": "", "lost": ""} {
				if got := readKey(t, path, key); got != want {
					t.Errorf("%s itself holds %q under %q, want %q", name, got, key, want)
				}
			}
		})
	}
}

func readBbolt(t *testing.T, path, key string) (value string) {
	t.Helper()
	db, err := bolt.Open(path, 0o600, &bolt.Options{ReadOnly: true})
	check(t, err)
	defer db.Close()
	check(t, db.View(func(tx *bolt.Tx) error {
		value = string(tx.Bucket([]byte("data")).Get([]byte(key)))
		return nil
	}))
	return value
}

func readPebble(t *testing.T, path, key string) string {
	t.Helper()
	db, err := pebble.Open(path, &pebble.Options{ReadOnly: true, Logger: silent{}})
	check(t, err)
	defer db.Close()
	value, closer, err := db.Get([]byte(key))
	if errors.Is(err, pebble.ErrNotFound) {
		return ""
	}
	check(t, err)
	defer closer.Close()
	return string(value)
}

type silent struct{}

func (silent) Infof(string, ...any)        {}
func (silent) Errorf(string, ...any)       {}
func (silent) Fatalf(f string, arg ...any) { panic(f) }
