package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"nvkv/compat/convert"
	"nvkv/kv"
)

// globals are the flags of every command on a store.
type globals struct {
	device deviceKind
}

// view opens the store at path for reading, shared with other readers, and calls fn with it.
func (g *globals) view(path string, fn func(*kv.DB) error) error {
	return g.with(path, &kv.Options{Device: string(g.device), ReadOnly: true}, fn)
}

// update opens the store at path, which exists, and calls fn with it.
func (g *globals) update(path string, fn func(*kv.DB) error) error {
	if _, err := os.Stat(path); err != nil {
		return err
	}
	return g.create(path, fn)
}

// create opens the store at path, or makes it if it is absent, and calls fn with it.
func (g *globals) create(path string, fn func(*kv.DB) error) error {
	return g.with(path, &kv.Options{Device: string(g.device)}, fn)
}

func (g *globals) with(path string, o *kv.Options, fn func(*kv.DB) error) error {
	db, err := kv.Open(path, o)
	if err != nil {
		return foreignHelp(path, damageHelp(path, err)) // it names the path
	}
	err = fn(db)
	if closeErr := db.Close(); err == nil {
		err = closeErr
	}
	return about(path, err)
}

// about adds to err the store and, for damage, a remedy.
func about(path string, err error) error {
	switch {
	case err == nil:
		return nil
	case !strings.Contains(err.Error(), path+": "):
		err = fmt.Errorf("%s: %w", path, err)
	}
	return damageHelp(path, err)
}

// damageHelp adds the command that rescues data from a damaged store.
func damageHelp(path string, err error) error {
	if errors.Is(err, kv.ErrCorrupt) || errors.Is(err, kv.ErrMediaFault) {
		return fmt.Errorf("%w; nvkv salvage %s OUT rescues what can be read", err, path)
	}
	return err
}

// foreignHelp adds the name of the program whose store a directory is, and the command that reads
// it.
func foreignHelp(path string, err error) error {
	for _, f := range convert.Formats() {
		if f.Directory && f.IsStore(path) {
			return fmt.Errorf("%w, as %s makes them: nvkv convert --from %s:%s reads it", err, f.Name, f.Name, path)
		}
	}
	return err
}

// errInterrupted is the result of a command that a signal ended early.
var errInterrupted = errors.New("interrupted")

// interrupted returns errInterrupted once ctx has ended.
func interrupted(ctx context.Context) error {
	if ctx.Err() != nil {
		return errInterrupted
	}
	return nil
}
