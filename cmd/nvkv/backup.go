package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"nvkv/kv"
)

func newBackupCmd(g *globals) *cobra.Command {
	var force, json bool
	cmd := &cobra.Command{
		Use:   "backup STORE FILE|-",
		Short: "Write a consistent copy of all records, with checksums",
		Long: `Writes all records of one snapshot, with their expiries, to FILE, or to
standard output with -, as a stream that "nvkv restore" reads. Every part of it
carries a checksum, and it does not depend on the device that the store lies on.

FILE is there as a whole or not at all: it is written under a temporary name,
made durable and renamed. One that is there already stays, unless --force is
given.`,
		Example: `  nvkv backup store.nv store.backup
  nvkv backup store.nv - | zstd > store.backup.zst
  nvkv backup store.nv - | nvkv restore - copy.nv`,
		Args: wantArgs("STORE", "FILE|-"),
	}
	cmd.Flags().BoolVar(&force, "force", false, "replace FILE if it is there")
	cmd.Flags().BoolVar(&json, "json", false, "print the result as JSON (on standard error with -)")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if _, err := os.Lstat(args[1]); err == nil && args[1] != "-" && !force {
			return fmt.Errorf("%s is there already; --force replaces it", args[1])
		}
		t := newTransfer(cmd)
		defer t.clear()
		o := &kv.Options{Device: g.device, ReadOnly: true, Progress: t.tell}
		return g.with(args[0], o, func(db *kv.DB) error {
			n, err := backup(cmd.Context(), db, args[1], cmd.OutOrStdout())
			if err != nil {
				return err
			}
			report := cmd.OutOrStdout()
			if args[1] == "-" {
				if !json {
					return nil
				}
				report = cmd.ErrOrStderr()
			}
			return t.report(report, json, args[1], n)
		})
	}
	return cmd
}

// backup writes a backup to the file at path, or to stdout with "-".
func backup(ctx context.Context, db *kv.DB, path string, stdout io.Writer) (n int64, err error) {
	if path == "-" {
		n, err = db.Backup(ctx, stdout)
		return n, ended(err)
	}
	err = replaceFile(path, func(f *os.File) error {
		n, err = db.Backup(ctx, f)
		return ended(err)
	})
	return n, err
}

// ended makes the end of a context an interruption.
func ended(err error) error {
	if errors.Is(err, context.Canceled) {
		return errInterrupted
	}
	return err
}

// replaceFile makes a file of what write writes, durably, as a whole or not at
// all.
func replaceFile(path string, write func(*os.File) error) error {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".part-*")
	if err != nil {
		return err
	}
	err = errors.Join(write(f), f.Chmod(0o644), f.Sync())
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		os.Remove(f.Name()) // err says what went wrong first
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer dir.Close()
	dir.Sync() // some file systems have nothing to sync there
	return nil
}

// transfer shows how far a backup or restore is, and what came of it.
type transfer struct {
	bar   *bar // nil where nobody would see it
	last  kv.Progress
	began time.Time
}

func newTransfer(cmd *cobra.Command) *transfer {
	return &transfer{bar: newBar(cmd), began: time.Now()}
}

func (t *transfer) tell(p kv.Progress) {
	t.last = p
	t.bar.set(p.Done, p.Total)
}

func (t *transfer) clear() { t.bar.clear() }

// transferResult is what --json prints.
type transferResult struct {
	Path    string  `json:"path"`
	Keys    int64   `json:"keys"`
	Bytes   int64   `json:"bytes"` // of a backup: of the stream; of a restore: of keys and values
	Seconds float64 `json:"seconds"`
}

func (t *transfer) report(w io.Writer, asJSON bool, path string, bytes int64) error {
	t.clear()
	took := time.Since(t.began)
	if asJSON {
		return writeJSON(w, transferResult{path, t.last.Done, bytes, took.Seconds()})
	}
	_, err := fmt.Fprintf(w, "%s: %s, %s, in %s\n", path, plural(t.last.Done, "record"), size(bytes), span(took))
	return err
}
