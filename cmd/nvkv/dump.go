package main

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"nvkv/cmd/nvkv/internal/textrec"
)

func newDumpCmd(g *globals) *cobra.Command {
	var (
		format textrec.Format
		keys   rangeFlags
		c      coding
	)
	cmd := &cobra.Command{
		Use:        "dump STORE",
		SuggestFor: []string{"export"},
		Short:      "Write all records, or those of a range, as text",
		Long: `Writes all records of one snapshot, or those of a range, to standard output, in
the order of their keys, so that "nvkv load" with the same format makes the same
store again, byte for byte:

  jsonl  {"key":"a","value":"b"}, an object a line
  csv    a header row, key,value,base64, then RFC 4180
  tsv    the same with tabs; \t, \n, \r and \\ inside a field
  lines  key, tab, value; all that is not printable escaped, as \xHH

Where a key or value is not text it is written in base64, and the field base64
of the record says which: key, value or both.

A record that expires says when, in RFC 3339 with nanoseconds: in the field
expires_at in jsonl, and in csv and tsv in a column of that name, which is there
if one does, or if another process has the store open. lines has no place for
it: a warning says how many records will not expire where they are loaded.`,
		Example: `  nvkv dump store.nv > store.jsonl
  nvkv dump store.nv --format csv | gzip > store.csv.gz
  nvkv dump store.nv --prefix user/ > users.jsonl
  nvkv dump old.nv | nvkv load new.nv -`,
		Args: wantArgs("STORE"),
	}
	cmd.Flags().Var(&format, "format", "jsonl, csv, tsv or lines")
	keys.addFlags(cmd)
	cmd.Flags().BoolVar(&c.keyHex, "key-hex", false, "--prefix, --start and --end are written in hexadecimal")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		start, end, err := keys.bounds(cmd, &c)
		if err != nil {
			return err
		}
		return g.read(cmd, args[0], nil, func(db reader) error {
			unended, err := dump(cmd.Context(), db, cmd.OutOrStdout(), format, keyRange{start: start, end: end})
			if unended > 0 {
				warnUnended(cmd.ErrOrStderr(), unended, "the format "+format.String())
			}
			return err
		})
	}
	return cmd
}

// dump writes the records of a range. It returns the number of records whose expiry the format cannot express.
func dump(ctx context.Context, db reader, out io.Writer, format textrec.Format, keys keyRange) (unended int64, err error) {
	w := textrec.NewWriter(out, format)
	switch _, running := db.(*remote); {
	case format.HasColumns() && running: // a second scan would see another state
		w.Expiring = true
	case format.HasColumns():
		err = db.scan(ctx, keys, func(rec textrec.Record) error {
			if w.Expiring = !rec.Expires.IsZero(); w.Expiring {
				return errStop
			}
			return nil
		})
	}
	if err == nil {
		err = db.scan(ctx, keys, w.Write)
	}
	if flushErr := w.Flush(); err == nil { // text before an error is valid
		err = flushErr
	}
	return w.Unended, err
}

// warnUnended warns that records will not expire in the destination.
func warnUnended(w io.Writer, n int64, where string) {
	fmt.Fprintf(w, "warning: %s of what was written will not expire: %s keeps no expiries\n", plural(n, "record"), where)
}
