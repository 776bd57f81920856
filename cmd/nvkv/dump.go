package main

import (
	"context"
	"io"

	"github.com/spf13/cobra"

	"nvkv/cmd/nvkv/internal/textrec"
	"nvkv/kv"
)

func newDumpCmd(g *globals) *cobra.Command {
	var format textrec.Format
	cmd := &cobra.Command{
		Use:   "dump STORE",
		Short: "Write all records as text",
		Long: `Writes all records of one snapshot to standard output, in the order of their
keys, so that "nvkv load" with the same format makes the same store again, byte
for byte:

  jsonl  {"key":"a","value":"b"}, an object a line
  csv    a header row, key,value,base64, then RFC 4180
  tsv    the same with tabs; \t, \n, \r and \\ inside a field
  lines  key, tab, value; all that is not printable escaped, as \xHH

Where a key or value is not text it is written in base64, and the field base64
of the record says which: key, value or both.`,
		Example: `  nvkv dump store.nv > store.jsonl
  nvkv dump store.nv --format csv | gzip > store.csv.gz
  nvkv dump old.nv | nvkv load new.nv -`,
		Args: wantArgs("STORE"),
	}
	cmd.Flags().Var(&format, "format", "jsonl, csv, tsv or lines")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return g.view(args[0], func(db *kv.DB) error {
			return dump(cmd.Context(), db, cmd.OutOrStdout(), format)
		})
	}
	return cmd
}

func dump(ctx context.Context, db *kv.DB, out io.Writer, format textrec.Format) error {
	w := textrec.NewWriter(out, format)
	err := db.View(func(tx *kv.Tx) error {
		n := 0
		for key, value := range tx.All(nil, nil) {
			if isLoadMark(key) {
				continue
			}
			if err := w.Write(key, value); err != nil {
				return err
			}
			if n++; n%1024 == 0 && ctx.Err() != nil {
				return errInterrupted
			}
		}
		return tx.Err()
	})
	if flushErr := w.Flush(); err == nil { // what comes before an error is good
		err = flushErr
	}
	return err
}
