package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"nvkv/kv"
)

// globals are the flags that every command on a store has.
type globals struct {
	device string
}

// view opens the store at path for reading, beside other readers, and calls
// fn with it.
func (g *globals) view(path string, fn func(*kv.DB) error) error {
	return g.with(path, &kv.Options{Device: g.device, ReadOnly: true}, fn)
}

// update opens the store at path, which exists, and calls fn with it.
func (g *globals) update(path string, fn func(*kv.DB) error) error {
	if _, err := os.Stat(path); err != nil {
		return err
	}
	return g.create(path, fn)
}

// create opens the store at path, making it if it is absent, and calls fn
// with it.
func (g *globals) create(path string, fn func(*kv.DB) error) error {
	return g.with(path, &kv.Options{Device: g.device}, fn)
}

func (g *globals) with(path string, o *kv.Options, fn func(*kv.DB) error) error {
	db, err := kv.Open(path, o)
	if err != nil {
		return err // it names the path
	}
	err = fn(db)
	if closeErr := db.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

// errInterrupted is what a command returns that ended early on a signal.
var errInterrupted = errors.New("interrupted")

// interrupted returns errInterrupted once ctx has ended.
func interrupted(ctx context.Context) error {
	if ctx.Err() != nil {
		return errInterrupted
	}
	return nil
}
