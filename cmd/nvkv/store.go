package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"nvkv/compat/convert"
	"nvkv/kv"
)

// globals are the flags of every command on a store.
type globals struct {
	device deviceKind
	socket string        // of the process that has the store open; "" to open the store, or else find it
	wait   time.Duration // for a lock
}

func (g *globals) addFlags(cmd *cobra.Command) {
	f := cmd.PersistentFlags()
	f.Var(&g.device, "device", "`KIND` of device the store lies on: "+deviceKindList+" (default: found out from the path)")
	f.DurationVar(&g.wait, "wait", 0, "`DURATION` to wait for another process to close the store, such as 5s")
	f.StringVar(&g.socket, "socket", "", "`PATH` of the socket at which another process answers (default: STORE.sock if STORE is locked)")
}

// read calls fn with the store at path. It opens the store for reading, shared with other readers,
// or asks the process that has it open. tell, if not nil, is told of the progress of a backup.
func (g *globals) read(cmd *cobra.Command, path string, tell func(kv.Progress), fn func(reader) error) error {
	return g.either(cmd.Context(), path, &kv.Options{ReadOnly: true, Progress: tell},
		func(db *kv.DB) error { return fn(local{db}) }, func(r *remote) error { return fn(r) })
}

// either opens the store at path and calls opened, or, if another process has it open and answers,
// calls asked.
func (g *globals) either(ctx context.Context, path string, o *kv.Options, opened func(*kv.DB) error, asked func(*remote) error) error {
	at := g.socket
	if at == "" {
		at = path + kv.SocketSuffix
		err := g.with(path, o, opened)
		var busy *lockedError
		if !errors.As(err, &busy) {
			return err
		}
	}
	r, err := dial(ctx, at, path)
	switch {
	case err == nil:
		return about(path, asked(r))
	case g.socket == "" && (errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED)): // nobody answers
		return g.waiting().with(path, o, opened)
	}
	return about(path, err)
}

// lockedError is the error for a store that another process has open, before g.wait.
type lockedError struct{ error }

func (e *lockedError) Unwrap() error { return e.error }

// view opens the store at path for reading, shared with other readers, and calls fn with it.
func (g *globals) view(path string, fn func(*kv.DB) error) error {
	return g.waiting().with(path, &kv.Options{ReadOnly: true}, fn)
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
	return g.waiting().with(path, &kv.Options{}, fn)
}

// opening opens stores.
type opening struct {
	device deviceKind
	wait   time.Duration
	last   bool // nothing else is tried if the store is locked
}

// with opens the store at path without waiting for a lock.
func (g *globals) with(path string, o *kv.Options, fn func(*kv.DB) error) error {
	return opening{device: g.device}.with(path, o, fn)
}

// waiting waits for a lock as --wait says.
func (g *globals) waiting() opening { return opening{g.device, g.wait, true} }

func (p opening) with(path string, o *kv.Options, fn func(*kv.DB) error) error {
	o.Device, o.LockTimeout = string(p.device), p.wait
	db, err := kv.Open(path, o)
	switch {
	case errors.Is(err, kv.ErrLocked) && !p.last:
		return &lockedError{err}
	case errors.Is(err, kv.ErrLocked):
		return lockedHelp(err, p.wait)
	case err != nil:
		return foreignHelp(path, damageHelp(path, err)) // it names the path
	}
	err = fn(db)
	if closeErr := db.Close(); err == nil {
		err = closeErr
	}
	return about(path, err)
}

// lockedHelp says what helps with a store that is locked.
func lockedHelp(err error, waited time.Duration) error {
	if waited > 0 {
		return fmt.Errorf("%w, after %v", err, waited)
	}
	return fmt.Errorf("%w; --wait 5s waits for it; a program that sets Options.Socket is asked while it runs", err)
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
