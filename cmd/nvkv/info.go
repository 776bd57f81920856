package main

import (
	"context"
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"nvkv/nvmap"
)

func newInfoCmd(g *globals) *cobra.Command {
	var json bool
	cmd := &cobra.Command{
		Use:   "info STORE",
		Short: "Say what device a store lies on, what that promises, and what is in it",
		Example: `  nvkv info store.nv
  nvkv info store.nv --json`,
		Args: wantArgs("STORE"),
	}
	cmd.Flags().BoolVar(&json, "json", false, "print as JSON")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return g.read(cmd, args[0], nil, func(db reader) error {
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
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
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
