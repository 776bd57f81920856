package main

import (
	"bytes"
	"context"
	"io"

	"github.com/spf13/cobra"

	"nvkv/cmd/nvkv/internal/textrec"
)

func newScanCmd(g *globals) *cobra.Command {
	var s scan
	cmd := &cobra.Command{
		Use:   "scan STORE",
		Short: "Print keys and values in order",
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
	f := cmd.Flags()
	f.StringVar(&s.prefix, "prefix", "", "only keys that begin with `P`")
	f.StringVar(&s.start, "start", "", "first `K` of the range")
	f.StringVar(&s.end, "end", "", "`K` at which the range stops")
	f.BoolVar(&s.reverse, "reverse", false, "from the last key to the first")
	f.Uint64Var(&s.limit, "limit", 0, "at most `N` records; 0: all")
	f.BoolVar(&s.keysOnly, "keys-only", false, "leave the values out")
	f.BoolVar(&s.json, "json", false, "one JSON object a line")
	cmd.MarkFlagsMutuallyExclusive("json", "hex")
	cmd.MarkFlagsMutuallyExclusive("json", "base64")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		start, end, err := s.bounds(cmd.Flags().Changed("end"))
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
	prefix, start, end      string
	reverse, keysOnly, json bool
	limit                   uint64
}

// bounds returns the range of the flags. The end is open only if no flag gives one: an empty --end
// is a range without keys.
func (s *scan) bounds(hasEnd bool) (start, end []byte, err error) {
	if start, err = s.coding.decode("--start", s.start); err != nil {
		return nil, nil, err
	}
	prefix, err := s.coding.decode("--prefix", s.prefix)
	if err != nil {
		return nil, nil, err
	}
	start, end = maxKey(start, prefix), prefixEnd(prefix)
	if !hasEnd {
		return start, end, nil
	}
	stop, err := s.coding.decode("--end", s.end)
	if err != nil {
		return nil, nil, err
	}
	if end == nil || bytes.Compare(stop, end) < 0 {
		end = append([]byte{}, stop...) // never nil, which would be open
	}
	return start, end, nil
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
		out := textrec.Record{Key: s.coding.encode(rec.Key), Value: s.coding.encode(rec.Value)}
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

func maxKey(a, b []byte) []byte {
	if bytes.Compare(a, b) < 0 {
		return b
	}
	return a
}

// prefixEnd returns the least key after all keys with prefix p, or nil if there is none.
func prefixEnd(p []byte) []byte {
	for i := len(p) - 1; i >= 0; i-- {
		if p[i] < 0xff {
			end := bytes.Clone(p[:i+1])
			end[i]++
			return end
		}
	}
	return nil
}
