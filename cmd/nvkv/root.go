package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"
)

// run executes one command line and returns the exit code.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	root := newRootCmd()
	root.SetArgs(append([]string{}, args...)) // nil would mean the process's own arguments
	root.SetIn(&interruptible{ctx: ctx, r: stdin})
	root.SetOut(stdout)
	root.SetErr(stderr)
	root.InitDefaultCompletionCmd() // now, so that the code below sees it; it keeps the present output
	refuseUnknown(root)
	markRunErrors(root)
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

Exit codes: 0 done, 1 failed, 2 wrong usage, 3 key not found, 4 done but for
records that were left out. A failure is one line on standard error that says
what and where.`,
		Example: `  nvkv demo
  nvkv put store.nv colour blue
  nvkv get store.nv colour
  nvkv load store.nv people.csv --key id
  nvkv scan store.nv --prefix user/ --limit 10`,
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	g.addFlags(root)
	root.AddCommand(
		newPutCmd(&g), newGetCmd(&g), newDelCmd(&g), newScanCmd(&g), newCountCmd(&g), newShellCmd(&g),
		newLoadCmd(&g), newDumpCmd(&g), newConvertCmd(),
		newInfoCmd(&g), newStatsCmd(&g), newCheckCmd(&g), newSalvageCmd(&g),
		newCompactCmd(&g), newBackupCmd(&g), newRestoreCmd(&g),
		newUICmd(&g), newBenchCmd(), newVersionCmd(), newManCmd(), newDemoCmd(), newDemoLoadCmd(),
	)
	root.SetHelpCommand(newHelpCmd())
	root.Version = strings.TrimPrefix(buildVersion().String(), "nvkv ")
	root.SetVersionTemplate("{{.Name}} {{.Version}}\n")
	completeValues(root)
	root.SetUsageTemplate(strings.ReplaceAll(root.UsageTemplate(), "Flags.FlagUsages", "Flags.FlagUsagesWrapped 80"))
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return plainFlagError(err) })
	return root
}

// newHelpCmd returns cobra's help command, except that it fails for unknown names.
func newHelpCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "help [COMMAND]",
		Short: "Help about any command",
		Example: `  nvkv help load
  nvkv help bench ycsb`,
		RunE: func(cmd *cobra.Command, args []string) error {
			about, rest, err := cmd.Root().Find(args)
			if err == nil && len(rest) > 0 {
				err = unknownCommand(about, rest[0])
			}
			if err != nil {
				return usageError{err}
			}
			about.InitDefaultHelpFlag()
			return about.Help()
		},
	}
}

// refuseUnknown makes every command that only has subcommands refuse an unknown name. cobra would
// show the help and succeed.
func refuseUnknown(cmd *cobra.Command) {
	if cmd.HasSubCommands() && !cmd.Runnable() {
		cmd.Args = cobra.ArbitraryArgs
		cmd.RunE = func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usageError{unknownCommand(cmd, args[0])}
			}
			return cmd.Help()
		}
	}
	for _, c := range cmd.Commands() {
		refuseUnknown(c)
	}
}

func unknownCommand(cmd *cobra.Command, name string) error {
	err := fmt.Errorf("unknown command %s for %q", quoted([]byte(name)), cmd.CommandPath())
	if near := suggestions(cmd, name); len(near) > 0 {
		err = fmt.Errorf("%w; did you mean %s?", err, strings.Join(near, " or "))
	}
	return err
}

// suggestions returns the command that other tools call so or, if there is none, those with similar
// names.
func suggestions(cmd *cobra.Command, name string) []string {
	for _, c := range cmd.Commands() {
		if slices.Contains(c.SuggestFor, name) {
			return []string{c.Name()}
		}
	}
	cmd.SuggestionsMinimumDistance = 2
	return cmd.SuggestionsFor(name)
}

// wantArgs accepts exactly the named arguments. A last name that ends in "..." stands for one or
// more.
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
