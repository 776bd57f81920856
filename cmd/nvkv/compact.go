package main

import (
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"nvkv/kv"
)

func newCompactCmd(g *globals) *cobra.Command {
	var json bool
	cmd := &cobra.Command{
		Use:        "compact STORE",
		SuggestFor: []string{"vacuum", "defrag", "shrink"},
		Short:      "Give space back, and put records in the order of their keys",
		Long: `Moves records out of slabs of which little is used and, where they lie in no
order, into the order of their keys, so that scans read from front to back. Free
space goes back to the file system, and the file is cut where its end is free.

While it runs the store may grow by what is moved. An interrupt ends it between
two moves; what was moved stays so.`,
		Example: `  nvkv compact store.nv
  nvkv compact store.nv --json`,
		Args: wantArgs("STORE"),
	}
	cmd.Flags().BoolVar(&json, "json", false, "print the result as JSON")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		t := newTransfer(cmd)
		defer t.clear()
		var r compactResult
		var err error
		if r.Before, err = fileUse(args[0]); err != nil {
			return err
		}
		err = g.either(cmd.Context(), args[0], &kv.Options{Progress: t.tell}, func(db *kv.DB) error {
			err := db.Compact(cmd.Context())
			m := db.Metrics()
			r.Moved, r.Keys = int64(m.EvacuatedRecords), m.Keys
			return ended(err)
		}, func(owner *remote) (err error) {
			r.Moved, r.Keys, err = owner.compact(cmd.Context(), t.tell)
			return err
		})
		if err != nil {
			return err
		}
		if r.After, err = fileUse(args[0]); err != nil {
			return err
		}
		t.clear()
		r.Path, r.Seconds = args[0], time.Since(t.began).Seconds()
		return r.print(cmd.OutOrStdout(), json)
	}
	return cmd
}

// compactResult is the output of --json.
type compactResult struct {
	Path    string  `json:"path"`
	Keys    int64   `json:"keys"`
	Moved   int64   `json:"records_moved"`
	Before  use     `json:"before"`
	After   use     `json:"after"`
	Seconds float64 `json:"seconds"`
}

// use is the space that a file takes, in bytes.
type use struct {
	Size   int64 `json:"size_bytes"`
	Blocks int64 `json:"allocated_bytes"`
}

func (r *compactResult) print(w io.Writer, asJSON bool) error {
	if asJSON {
		return writeJSON(w, r)
	}
	_, err := fmt.Fprintf(w, "%s: %s moved; %s on the device, %s before; in %s\n", shown(r.Path), plural(r.Moved, "record"),
		size(r.After.Blocks), size(r.Before.Blocks), span(time.Duration(r.Seconds*float64(time.Second))))
	return err
}
