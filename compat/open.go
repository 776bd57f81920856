package compat

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// engineKind is what Open knows of an engine.
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

// Names returns the names that Open knows.
func Names() []string {
	names := make([]string, len(engineKinds))
	for i, k := range engineKinds {
		names[i] = k.name
	}
	return names
}

// Open opens the named engine's store in dir and creates both as needed. One
// directory may hold a store of each engine: see [Path].
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

// OpenPath is Open for a store at a path of the caller's choice: a file of
// nvkv or bbolt, a directory of pebble.
func OpenPath(name, path string, opts Options) (Engine, error) {
	kind, err := kindOf(name)
	if err != nil {
		return nil, err
	}
	return kind.open(path, opts)
}

// Path returns where Open keeps the named engine's store inside dir, or ""
// for a name it does not know.
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

// diskBytes returns the bytes of disk blocks behind path, which may be a file
// or a directory. Files that vanish meanwhile do not count.
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
