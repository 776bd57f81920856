package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"
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
given. It has the permissions of STORE.`,
		Example: `  nvkv backup store.nv store.backup
  nvkv backup store.nv - | zstd > store.backup.zst
  nvkv backup store.nv - | nvkv restore - copy.nv`,
		Args: wantArgs("STORE", "FILE|-"),
	}
	cmd.Flags().BoolVar(&force, "force", false, "replace FILE if it is there")
	cmd.Flags().BoolVar(&json, "json", false, "print the result as JSON (on standard error with -)")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if args[1] != "-" {
			if err := checkTarget(args[0], args[1], force); err != nil {
				return err
			}
		}
		t := newTransfer(cmd)
		defer t.clear()
		return g.read(cmd, args[0], t.tell, func(db reader) error {
			n, err := t.backup(cmd.Context(), db, args[0], args[1], cmd.OutOrStdout())
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

// checkTarget refuses an output file that exists, unless it may be replaced. It always refuses the
// source itself, and anything that a rename would turn into another kind of file.
func checkTarget(from, to string, force bool) error {
	fi, err := os.Lstat(to)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil
	case err != nil:
		return err
	}
	if err := notOnto(from, to); err != nil {
		return err
	}
	if through, err := os.Stat(to); err == nil {
		fi = through
	}
	switch {
	case fi.IsDir():
		return fmt.Errorf("%s is a directory", to)
	case fi.Mode()&^os.ModeSymlink&os.ModeType != 0:
		return fmt.Errorf("%s is no regular file, and is not replaced by one; - writes to standard output", to)
	case !force:
		return fmt.Errorf("%s is there already; --force replaces it", to)
	}
	return nil
}

// backup writes a backup to the file at path, or to stdout with "-".
func (t *transfer) backup(ctx context.Context, db reader, store, path string, stdout io.Writer) (n int64, err error) {
	if path == "-" {
		if n, err = db.backup(ctx, stdout, t.tell); errors.Is(err, syscall.EPIPE) {
			err = fmt.Errorf("standard output: %w: %w", err, errCutShort)
		}
		return n, ended(err)
	}
	err = replaceFile(path, modeOf(store), func(f *os.File) error {
		n, err = db.backup(ctx, f, t.tell)
		return ended(err)
	})
	return n, err
}

// ended turns the end of a context into errInterrupted.
func ended(err error) error {
	if errors.Is(err, context.Canceled) {
		return errInterrupted
	}
	return err
}

// replaceFile makes a file from the output of write, durably, and completely or not at all.
func replaceFile(path string, mode fs.FileMode, write func(*os.File) error) error {
	p, err := newPart(path, mode)
	if err != nil {
		return err
	}
	defer p.discard()
	if err := write(p.file); err != nil {
		return err
	}
	return p.replace()
}

// transfer shows the progress of a backup or restore, and reports its result.
type transfer struct {
	bar   *bar // nil if no terminal shows it
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

// transferResult is the output of --json.
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
	_, err := fmt.Fprintf(w, "%s: %s, %s, in %s\n", shown(path), plural(t.last.Done, "record"), size(bytes), span(took))
	return err
}
