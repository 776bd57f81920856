// Command nvkvd serves an ordered key-value store from several machines, by raft above nvkv.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
)

const usage = `usage: nvkvd COMMAND [flags]

  serve      run a node
  status     print how the nodes stand
  join       add a node that runs, or give one another address
  remove     remove a node
  leave      hand a node's leadership over and remove it
  transfer   make another node lead
  backup     write a backup of the cluster to standard output
  restore    replace what the cluster holds by a backup from standard input
  demo       three nodes on this machine: load, kill the leader, what the clients saw

nvkvd COMMAND --help lists a command's flags. docs/cluster.md describes the HTTP interface.
`

// errUsage says that the command line was wrong and that it was said how.
var errUsage = errors.New("wrong usage")

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	switch {
	case errors.Is(err, errUsage):
		os.Exit(2)
	case err != nil && !errors.Is(err, flag.ErrHelp):
		fmt.Fprintln(os.Stderr, "nvkvd:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, in io.Reader, out, log io.Writer) error {
	commands := map[string]func(context.Context, *call) error{
		"serve": serve, "status": status, "join": join, "remove": remove, "leave": leave,
		"transfer": transfer, "backup": backup, "restore": restore, "demo": demo,
	}
	if len(args) == 0 || args[0] == "help" || args[0] == "--help" || args[0] == "-h" {
		fmt.Fprint(out, usage)
		return nil
	}
	fn, ok := commands[args[0]]
	if !ok {
		fmt.Fprintf(log, "nvkvd: no command %q\n\n%s", args[0], usage)
		return errUsage
	}
	c := &call{flags: flag.NewFlagSet("nvkvd "+args[0], flag.ContinueOnError), args: args[1:], in: in, out: out, log: log}
	c.flags.SetOutput(log)
	return fn(ctx, c)
}

// call is a call of a command.
type call struct {
	flags    *flag.FlagSet
	args     []string
	in       io.Reader
	out, log io.Writer
}

// parse reads the flags. No command takes arguments besides.
func (c *call) parse() error {
	if err := c.flags.Parse(c.args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return err
		}
		return errUsage
	}
	if c.flags.NArg() > 0 {
		fmt.Fprintf(c.log, "%s: unexpected %q\n", c.flags.Name(), c.flags.Args())
		return errUsage
	}
	return nil
}
