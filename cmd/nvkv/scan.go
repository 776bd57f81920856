package main

import (
	"context"
	"io"

	"github.com/spf13/cobra"

	"nvkv/cmd/nvkv/internal/textrec"
)

func newScanCmd(g *globals) *cobra.Command {
	var s scan
	cmd := &cobra.Command{
		Use:        "scan STORE",
		SuggestFor: []string{"ls", "list", "keys", "range", "iterate"},
		Short:      "Print keys and values in order",
		Long: `Prints the records of a range in the bytewise order of their keys, as one
snapshot has them: key, tab, value. What is not printable is escaped: \t, \n,
\r, \\ and \xHH for a byte. "nvkv load --format lines" reads that back. With
--hex or --base64 keys and values are written, and the bounds read, in those;
with --json each line is an object, as in "nvkv dump".

--start, --end and --prefix may be combined; --end itself is not in the range.`,
		Example: `  nvkv scan store.nv
  nvkv scan store.nv --prefix user/ --limit 10
  nvkv scan store.nv --start 2026-01 --end 2026-02 --reverse
  nvkv scan store.nv --keys-only | wc -l`,
		Args: wantArgs("STORE"),
	}
	s.coding.addFlags(cmd)
	s.keys.addFlags(cmd)
	f := cmd.Flags()
	f.BoolVar(&s.reverse, "reverse", false, "from the last key to the first")
	f.Uint64Var(&s.limit, "limit", 0, "at most `N` records; 0: all")
	f.BoolVar(&s.keysOnly, "keys-only", false, "leave the values out")
	f.BoolVar(&s.json, "json", false, "one JSON object a line")
	for _, form := range []string{"hex", "base64", "key-hex", "value-hex"} {
		cmd.MarkFlagsMutuallyExclusive("json", form)
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		start, end, err := s.keys.bounds(cmd, &s.coding)
		if err != nil {
			return err
		}
		return g.read(cmd, args[0], nil, func(db reader) error {
			return s.run(cmd.Context(), db, cmd.OutOrStdout(), start, end)
		})
	}
	return cmd
}

// scan is one run of the command.
type scan struct {
	coding                  coding
	keys                    rangeFlags
	reverse, keysOnly, json bool
	limit                   uint64
}

func (s *scan) run(ctx context.Context, db reader, out io.Writer, start, end []byte) error {
	format := textrec.Lines
	if s.json {
		format = textrec.JSONL
	}
	w := textrec.NewWriter(out, format)
	w.KeysOnly = s.keysOnly
	r := keyRange{start: start, end: end, reverse: s.reverse, limit: s.limit, keysOnly: s.keysOnly && !s.json} // JSON has the expiry
	err := db.scan(ctx, r, func(rec textrec.Record) error {
		out := textrec.Record{Key: s.coding.encodeKey(rec.Key), Value: s.coding.encodeValue(rec.Value)}
		if s.json {
			out.Expires = rec.Expires
		}
		return w.Write(out)
	})
	if flushErr := w.Flush(); err == nil { // output before an error is valid
		err = flushErr
	}
	return err
}
