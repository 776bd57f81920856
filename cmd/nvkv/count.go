package main

import (
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"nvkv/cmd/nvkv/internal/textrec"
)

func newCountCmd(g *globals) *cobra.Command {
	var (
		c             coding
		keys          rangeFlags
		sizes, asJSON bool
	)
	cmd := &cobra.Command{
		Use:        "count STORE",
		SuggestFor: []string{"len", "size", "wc"},
		Short:      "Count the keys of a store or of a range",
		Long: `Prints how many keys there are in a store or in a range, as one snapshot has
them. Expired keys are not counted. It reads the index alone, where that has the
keys; with --sizes it reads all records, and says how long keys and values are,
how many of them expire, and when the first of these does.`,
		Example: `  nvkv count store.nv
  nvkv count store.nv --prefix user/
  nvkv count store.nv --start 2026-01 --end 2026-02 --sizes --json`,
		Args: wantArgs("STORE"),
	}
	c.addKeyFlags(cmd)
	keys.addFlags(cmd)
	cmd.Flags().BoolVar(&sizes, "sizes", false, "read the records too, for sizes and expiries")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print as JSON")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		start, end, err := keys.bounds(cmd, &c)
		if err != nil {
			return err
		}
		r := countResult{}
		if sizes {
			r.Sizes = &sizesResult{}
		}
		return g.read(cmd, args[0], nil, func(db reader) error {
			if err := db.scan(cmd.Context(), keyRange{start: start, end: end, keysOnly: !sizes}, r.add); err != nil {
				return err
			}
			return r.print(cmd.OutOrStdout(), asJSON)
		})
	}
	return cmd
}

// countResult is the output of --json.
type countResult struct {
	Keys  int64        `json:"keys"`
	Sizes *sizesResult `json:"sizes,omitempty"` // with --sizes
}

type sizesResult struct {
	KeyBytes    int64      `json:"key_bytes"`
	ValueBytes  int64      `json:"value_bytes"`
	MaxKey      int        `json:"max_key_bytes"`
	MaxValue    int        `json:"max_value_bytes"`
	Expiring    int64      `json:"expiring"`
	FirstExpiry *time.Time `json:"first_expires_at,omitempty"`
}

func (r *countResult) add(rec textrec.Record) error {
	r.Keys++
	s := r.Sizes
	if s == nil {
		return nil
	}
	s.KeyBytes += int64(len(rec.Key))
	s.ValueBytes += int64(len(rec.Value))
	s.MaxKey, s.MaxValue = max(s.MaxKey, len(rec.Key)), max(s.MaxValue, len(rec.Value))
	if at := rec.Expires.UTC(); !rec.Expires.IsZero() {
		if s.Expiring++; s.FirstExpiry == nil || at.Before(*s.FirstExpiry) {
			s.FirstExpiry = &at
		}
	}
	return nil
}

func (r *countResult) print(w io.Writer, asJSON bool) error {
	s := r.Sizes
	switch {
	case asJSON:
		return writeJSON(w, r)
	case s == nil:
		_, err := fmt.Fprintln(w, r.Keys)
		return err
	}
	expiring := "none expires"
	if s.FirstExpiry != nil {
		expiring = fmt.Sprintf("%s, the first at %s", count(s.Expiring), s.FirstExpiry.Format(time.RFC3339))
	}
	_, err := fmt.Fprintf(w, "keys      %s\nkey       %s in all, the longest has %s\nvalue     %s in all, the longest has %s\nexpiring  %s\n",
		count(r.Keys), size(s.KeyBytes), plural(s.MaxKey, "byte"), size(s.ValueBytes), plural(s.MaxValue, "byte"), expiring)
	return err
}
