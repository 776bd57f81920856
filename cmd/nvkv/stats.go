package main

import (
	"encoding/json"
	"fmt"
	"io"
	"reflect"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"nvkv/kv"
)

func newStatsCmd(g *globals) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "stats STORE",
		Short: "Print the counters of the engine",
		Long: `Prints the counters of the engine. What counts operations counts those since
the store was opened, which this command does for itself; what it says about
sizes and about the recovery is about the store.`,
		Example: `  nvkv stats store.nv
  nvkv stats store.nv --json`,
		Args: wantArgs("STORE"),
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print as JSON")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return g.view(args[0], func(db *kv.DB) error {
			if asJSON {
				return writeJSON(cmd.OutOrStdout(), db.Metrics())
			}
			return printStats(cmd.OutOrStdout(), db.Metrics())
		})
	}
	return cmd
}

func printStats(w io.Writer, m kv.Metrics) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	printFields(t, "", reflect.ValueOf(m))
	return t.Flush()
}

// printFields writes a row for every exported field of a struct, under its JSON name, including
// fields of nested structs.
func printFields(w io.Writer, prefix string, v reflect.Value) {
	for i := range v.NumField() {
		field := v.Type().Field(i)
		if !field.IsExported() {
			continue
		}
		name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		if name == "" {
			name = field.Name
		}
		if f := v.Field(i); f.Kind() == reflect.Struct {
			printFields(w, prefix+name+".", f)
		} else {
			fmt.Fprintf(w, "%s%s\t%s\n", prefix, name, statValue(prefix+name, f))
		}
	}
}

// statValue formats a number exactly and, if its name gives the unit, also in readable form.
func statValue(name string, v reflect.Value) string {
	switch {
	case v.CanInt():
		return withUnit(name, v.Int())
	case v.CanUint():
		return withUnit(name, int64(v.Uint()))
	case v.CanFloat():
		return fmt.Sprintf("%.3g", v.Float())
	}
	p, err := json.Marshal(v.Interface())
	if err != nil {
		return err.Error()
	}
	return string(p)
}

func withUnit(name string, n int64) string {
	switch {
	case strings.HasSuffix(name, "_ns") && n >= 1000:
		return fmt.Sprintf("%d (%s)", n, span(time.Duration(n)))
	case strings.Contains(name, "_bytes") && n >= 1000:
		return fmt.Sprintf("%d (%s)", n, size(n))
	}
	return fmt.Sprint(n)
}
