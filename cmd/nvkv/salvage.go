package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"nvkv/cmd/nvkv/internal/textrec"
	"nvkv/kv"
)

func newSalvageCmd(g *globals) *cobra.Command {
	return &cobra.Command{
		Use:   "salvage STORE OUT",
		Short: "Rescue what is readable of a damaged store",
		Long: `Reads what can be read of a store, also of one that does not open any more, and
writes it to OUT: a new store, or JSON lines where OUT ends in .jsonl or is -.
STORE is not changed. OUT must not exist.

Where the store's index stands, it says what is rescued. Where a part of it is
gone, every slot is searched for records whose checksums hold, and the newest
one of each key is taken: such a key may have had a newer value, or have been
deleted. A record that the index names and of which one bit has turned over is
rescued with that bit turned back, unless its value lies in runs and the store has
been written to since. What could not be read, and how much was found
either way, is told on standard error. The exit code is 0 if all that the index
names was rescued.`,
		Example: `  nvkv salvage broken.nv rescued.nv
  nvkv salvage broken.nv rescued.jsonl
  nvkv salvage broken.nv - | head`,
		Args: wantArgs("STORE", "OUT"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return salvage(cmd, args[0], args[1], &kv.Options{Device: g.device})
		},
	}
}

func salvage(cmd *cobra.Command, from, to string, o *kv.Options) error {
	out, err := openRescue(cmd.OutOrStdout(), to)
	if err != nil {
		return err
	}
	report, err := kv.Salvage(cmd.Context(), from, o, out.put)
	if errors.Is(err, context.Canceled) {
		err = errInterrupted
	}
	if err = errors.Join(err, out.close()); err != nil {
		return err
	}
	tell := cmd.ErrOrStderr()
	for _, d := range report.Damage {
		fmt.Fprintln(tell, d)
	}
	mended := ""
	if report.Mended > 0 {
		mended = fmt.Sprintf(", one bit turned back in %d of them,", report.Mended)
	}
	fmt.Fprintf(tell, "rescued %s by the index%s and %d without it; %s lost\n",
		plural(int(report.Indexed), "record"), mended, report.Stray, plural(int(report.Lost), "key"))
	if report.Lost > 0 {
		return fmt.Errorf("%s: %s that the index names could not be rescued", from, plural(int(report.Lost), "key"))
	}
	return nil
}

// rescueOut takes rescued records.
type rescueOut struct {
	put   func(kv.Rescued) error
	close func() error
}

func openRescue(stdout io.Writer, to string) (*rescueOut, error) {
	if to == "-" {
		return rescueLines(stdout, func() error { return nil }), nil
	}
	if _, err := os.Lstat(to); err == nil {
		return nil, fmt.Errorf("%s exists already", to)
	}
	if strings.HasSuffix(to, ".jsonl") {
		f, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
		if err != nil {
			return nil, err
		}
		return rescueLines(f, func() error { return errors.Join(f.Sync(), f.Close()) }), nil
	}
	return rescueStore(to)
}

// rescueLines writes JSON lines, which have no expiries.
func rescueLines(w io.Writer, end func() error) *rescueOut {
	lines := textrec.NewWriter(w, textrec.JSONL)
	return &rescueOut{
		put:   func(r kv.Rescued) error { return lines.Write(r.Key, r.Value) },
		close: func() error { return errors.Join(lines.Flush(), end()) },
	}
}

// rescueBatchBytes is how much a batch of rescued records gathers.
const rescueBatchBytes = 1 << 20

// rescueStore puts records into a new store.
func rescueStore(path string) (*rescueOut, error) {
	db, err := kv.Open(path, nil)
	if err != nil {
		return nil, err
	}
	b := db.NewBatch()
	flush := func() error {
		err := db.Write(b)
		b.Reset()
		return err
	}
	return &rescueOut{
		put: func(r kv.Rescued) error {
			if r.Expires.IsZero() {
				b.Put(r.Key, r.Value)
			} else {
				b.PutTTL(r.Key, r.Value, time.Until(r.Expires))
			}
			if b.Size() < rescueBatchBytes {
				return nil
			}
			return flush()
		},
		close: func() error { return errors.Join(flush(), db.Close()) },
	}, nil
}
