package main

import (
	"context"
	"io"
	"os"

	"github.com/spf13/cobra"

	"nvkv/kv"
)

func newRestoreCmd(g *globals) *cobra.Command {
	var json bool
	cmd := &cobra.Command{
		Use:   "restore FILE|- STORE",
		Short: "Make a store of what backup wrote",
		Long: `Makes a new store of what "nvkv backup" wrote to FILE, or of standard input with
-. Expiries are kept, and what has expired meanwhile is left out. A store that
is there already is never touched.

The new store is there as a whole or not at all. A backup that is damaged or cut
is refused with the byte at which that shows, and nothing is left behind.`,
		Example: `  nvkv restore store.backup store.nv
  zstdcat store.backup.zst | nvkv restore - store.nv
  nvkv restore store.backup store.nv --json`,
		Args: wantArgs("FILE|-", "STORE"),
	}
	cmd.Flags().BoolVar(&json, "json", false, "print the result as JSON")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		in := cmd.InOrStdin()
		if args[0] != "-" {
			if err := notOnto(args[0], args[1]); err != nil {
				return err
			}
			f, err := os.Open(args[0])
			if err != nil {
				return err
			}
			defer f.Close()
			in = f
		}
		t := newTransfer(cmd)
		defer t.clear()
		if err := restore(cmd.Context(), args[1], in, &kv.Options{Device: string(g.device), Progress: t.tell}); err != nil {
			return err
		}
		return t.report(cmd.OutOrStdout(), json, args[1], t.last.Bytes)
	}
	return cmd
}

func restore(ctx context.Context, store string, in io.Reader, o *kv.Options) error {
	return ended(kv.Restore(ctx, store, in, o))
}
