package main

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
)

// run executes one command line and returns the exit code.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	root := newRootCmd()
	root.SetArgs(append([]string{}, args...)) // nil would be the process's own
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	cmd, err := root.ExecuteContextC(ctx)
	return explain(stderr, cmd, err)
}

func newRootCmd() *cobra.Command {
	var g globals
	root := &cobra.Command{
		Use:   "nvkv",
		Short: "Work with nvkv stores: ordered, transactional key-value data in non-volatile memory",
		Long: `nvkv works with stores of the nvkv engine. A store is one file,
on a filesystem, or in /dev/shm to try things out at the speed of memory; or
it is a device of its own: /dev/daxX.Y, a disk, or a PCI device's resourceN_wc
in sysfs.

Exit codes: 0 done, 1 failed, 2 wrong usage, 3 key not found. A failure is
one line on standard error that says what and where.`,
		Example: `  nvkv demo
  nvkv put store.nv colour blue
  nvkv get store.nv colour
  nvkv load store.nv people.csv --key id
  nvkv scan store.nv --prefix user/ --limit 10`,
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.PersistentFlags().StringVar(&g.device, "device", "",
		"`KIND` of device the store lies on: file, shm, dax, devdax, pcie or block (default: found out from the path)")
	root.AddCommand(
		newPutCmd(&g), newGetCmd(&g), newDelCmd(&g), newScanCmd(&g),
		newLoadCmd(&g), newDumpCmd(&g), newConvertCmd(),
		newInfoCmd(&g), newStatsCmd(&g), newCheckCmd(&g), newSalvageCmd(&g),
		newCompactCmd(&g), newBackupCmd(&g), newRestoreCmd(&g),
		newBenchCmd(), newVersionCmd(), newDemoCmd(), newDemoLoadCmd(),
	)
	markRunErrors(root)
	return root
}

// wantArgs accepts exactly the arguments named; a last name that ends in
// "..." stands for one or more.
func wantArgs(names ...string) cobra.PositionalArgs {
	many := len(names) > 0 && strings.HasSuffix(names[len(names)-1], "...")
	return func(_ *cobra.Command, args []string) error {
		if len(args) == len(names) || many && len(args) > len(names) {
			return nil
		}
		if len(names) == 0 {
			return fmt.Errorf("unexpected argument %q", args[0])
		}
		return fmt.Errorf("want %s, got %s", strings.Join(names, " "), plural(len(args), "argument"))
	}
}
