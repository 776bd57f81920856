package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"nvkv/nvmap"
)

func newInfoCmd(g *globals) *cobra.Command {
	var json bool
	cmd := &cobra.Command{
		Use:        "info STORE [KEY]",
		SuggestFor: []string{"describe", "stat", "status"},
		Short:      "Say what device a store lies on, what that promises, and what is in it",
		Long: `Says what device a store lies on, what that promises, and what is in the store.
With KEY it says how long that key and its value are, and when it expires.`,
		Example: `  nvkv info store.nv
  nvkv info store.nv session/7
  nvkv info store.nv --json`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 2 {
				return nil
			}
			return wantArgs("STORE")(cmd, args)
		},
	}
	var c coding
	cmd.Flags().BoolVar(&c.keyHex, "key-hex", false, "KEY is written in hexadecimal")
	cmd.Flags().BoolVar(&json, "json", false, "print as JSON")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return g.read(cmd, args[0], nil, func(db reader) error {
			if len(args) == 2 {
				return infoOfKey(cmd, db, &c, args[1], json)
			}
			info, err := storeInfoOf(cmd.Context(), db, args[0])
			if err != nil {
				return err
			}
			if json {
				return writeJSON(cmd.OutOrStdout(), info)
			}
			return info.print(cmd.OutOrStdout())
		})
	}
	return cmd
}

// keyInfo is the output of --json for a key.
type keyInfo struct {
	KeyBytes   int        `json:"key_bytes"`
	ValueBytes int        `json:"value_bytes"`
	Expires    *time.Time `json:"expires_at,omitempty"`
}

func infoOfKey(cmd *cobra.Command, db reader, c *coding, arg string, asJSON bool) error {
	key, err := c.decodeKey("key", arg)
	if err != nil {
		return err
	}
	rec, err := db.get(cmd.Context(), key)
	if err != nil {
		return fmt.Errorf("%s: %w", quoted(key), err)
	}
	k := keyInfo{KeyBytes: len(rec.Key), ValueBytes: len(rec.Value)}
	ends := "never"
	if !rec.Expires.IsZero() {
		at := rec.Expires.UTC()
		k.Expires = &at
		ends = fmt.Sprintf("at %s, in %v", at.Format(time.RFC3339), time.Until(at).Round(time.Second))
	}
	if asJSON {
		return writeJSON(cmd.OutOrStdout(), k)
	}
	_, err = fmt.Fprintf(cmd.OutOrStdout(), "key      %s, %s\nvalue    %s\nexpires  %s\n", quoted(key), plural(k.KeyBytes, "byte"), plural(k.ValueBytes, "byte"), ends)
	return err
}

// storeInfo is the output of --json.
type storeInfo struct {
	Store       string     `json:"store"`
	Format      int        `json:"format_version"`
	Device      nvmap.Info `json:"device"`
	Owner       *owner     `json:"opened_by,omitempty"` // another process that has it open
	Keys        int64      `json:"keys"`
	LiveBytes   int64      `json:"live_bytes"`
	DeviceBytes int64      `json:"device_bytes"`
	Transparent string     `json:"transparent_map"` // "works", or what is missing here
	Unfinished  *loadMark  `json:"unfinished_load,omitempty"`
}

func storeInfoOf(ctx context.Context, db reader, path string) (*storeInfo, error) {
	mark, err := readLoadMark(ctx, db)
	if err != nil {
		return nil, err
	}
	st, err := db.status(ctx)
	if err != nil {
		return nil, err
	}
	transparent := "works"
	if err := nvmap.PagedSupported(); err != nil {
		transparent = err.Error()
	}
	return &storeInfo{
		Store: path, Format: st.Format, Device: st.Device, Owner: st.Owner, Keys: st.Metrics.Keys,
		LiveBytes: st.Metrics.LiveBytes, DeviceBytes: st.Metrics.DeviceBytes, Transparent: transparent,
		Unfinished: mark,
	}, nil
}

func (s *storeInfo) print(w io.Writer) error {
	t := newTable(w)
	fmt.Fprintf(t, "store\t%s\n", shown(s.Store))
	fmt.Fprintf(t, "format\tversion %d\n", s.Format)
	if o := s.Owner; o != nil {
		fmt.Fprintf(t, "opened by\tprocess %d (%s), %s ago\n", o.Pid, shown(o.Command), o.age())
	}
	printDevice(t, s.Device)
	fmt.Fprintf(t, "keys\t%s\n", count(s.Keys))
	fmt.Fprintf(t, "size\t%s, of which %s live\n", size(s.DeviceBytes), size(s.LiveBytes))
	fmt.Fprintf(t, "transparent\tnvmap.OpenPaged on this machine: %s\n", s.Transparent)
	if m := s.Unfinished; m != nil {
		fmt.Fprintf(t, "unfinished\tload of %s: %s in, up to line %s; load --resume goes on\n",
			shown(m.Source), plural(m.Records, "record"), count(m.Line))
	}
	return t.Flush()
}

// table is a tabwriter for rows of two columns. On a terminal it wraps the second one.
type table struct {
	tabwriter.Writer
	wrap bool
}

func newTable(w io.Writer) *table {
	t := &table{wrap: isTerminal(w)}
	t.Init(w, 0, 0, 2, ' ', 0)
	return t
}

// valueColumns is where a second column is wrapped: with the first, it fits 80.
const valueColumns = 66

// Write takes whole rows.
func (t *table) Write(p []byte) (int, error) {
	rows := string(p)
	if t.wrap {
		rows = wrapRows(rows)
	}
	_, err := t.Writer.Write([]byte(rows))
	return len(p), err
}

func wrapRows(rows string) string {
	var b strings.Builder
	for row := range strings.Lines(rows) {
		name, value, _ := strings.Cut(strings.TrimSuffix(row, "\n"), "\t")
		for len(value) > valueColumns {
			at := strings.LastIndexByte(value[:valueColumns+1], ' ')
			if at <= 0 {
				break
			}
			b.WriteString(name + "\t" + value[:at] + "\n")
			name, value = "", value[at+1:]
		}
		b.WriteString(name + "\t" + value + "\n")
	}
	return b.String()
}

// printDevice writes the properties and promises of a device as rows of a table.
func printDevice(t io.Writer, d nvmap.Info) {
	fmt.Fprintf(t, "device\t%s: %s\n", d.Kind, d.Why)
	fmt.Fprintf(t, "fenced is\t%s\n", d.Domain)
	fmt.Fprintf(t, "power cut\t%s\n", map[bool]string{true: "everything counts as lost", false: "what was fenced stays"}[d.Volatile])
	fmt.Fprintf(t, "reads\t%s\n", map[bool]string{true: "in place, from the mapped device", false: "through copies in DRAM"}[d.Mapped])
	if d.Mover != "" {
		fmt.Fprintf(t, "writes\t%s, best in units of %s, whole within %s\n", d.Mover, plural(d.Unit, "byte"), plural(d.Sector, "byte"))
	}
	if d.Protect != "" {
		fmt.Fprintf(t, "protection\t%s\n", d.Protect)
	}
	fmt.Fprintf(t, "grows to\t%s\n", size(d.MaxBytes))
	if d.Note != "" {
		fmt.Fprintf(t, "note\t%s\n", d.Note)
	}
}
