package compat

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// engineKind describes an engine to Open.
type engineKind struct {
	name string
	base string // file or directory of the store inside the caller's directory
	open func(path string, opts Options) (Engine, error)
}

var engineKinds = []engineKind{
	{"nvkv", "store.nvkv", openNvkv},
	{"bbolt", "store.bbolt", openBbolt},
	{"pebble", "store.pebble", openPebble},
}

// Names returns the engine names that Open accepts.
func Names() []string {
	names := make([]string, len(engineKinds))
	for i, k := range engineKinds {
		names[i] = k.name
	}
	return names
}

// Open opens the named engine's store in dir. It creates both if they do not exist. One directory
// may hold a store of each engine: see [Path].
func Open(name, dir string, opts Options) (Engine, error) {
	kind, err := kindOf(name)
	if err != nil {
		return nil, err
	}
	if !opts.ReadOnly {
		if err := os.MkdirAll(dir, 0o777); err != nil {
			return nil, fmt.Errorf("compat: open %s: %w", name, err)
		}
	}
	return kind.open(filepath.Join(dir, kind.base), opts)
}

// OpenPath is Open for a store at a given path: a file for nvkv and bbolt, a directory for pebble.
func OpenPath(name, path string, opts Options) (Engine, error) {
	kind, err := kindOf(name)
	if err != nil {
		return nil, err
	}
	return kind.open(path, opts)
}

// Path returns the path of the named engine's store inside dir, or "" for an unknown name.
func Path(name, dir string) string {
	kind, err := kindOf(name)
	if err != nil {
		return ""
	}
	return filepath.Join(dir, kind.base)
}

func kindOf(name string) (engineKind, error) {
	i := slices.IndexFunc(engineKinds, func(k engineKind) bool { return k.name == name })
	if i < 0 {
		return engineKind{}, fmt.Errorf("compat: unknown engine %q; known: %s", name, strings.Join(Names(), ", "))
	}
	return engineKinds[i], nil
}

// diskBytes returns the bytes of disk blocks behind path, which may be a file or a directory. Files
// that are removed meanwhile do not count.
func diskBytes(path string) (int64, error) {
	var total int64
	err := filepath.WalkDir(path, func(_ string, entry fs.DirEntry, err error) error {
		if err != nil {
			return ignoreNotExist(err)
		}
		info, err := entry.Info()
		if err != nil {
			return ignoreNotExist(err)
		}
		if info.Mode().IsRegular() {
			total += allocatedBytes(info)
		}
		return nil
	})
	return total, err
}

func ignoreNotExist(err error) error {
	if os.IsNotExist(err) {
		return nil
	}
	return err
}
