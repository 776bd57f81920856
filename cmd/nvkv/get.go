package main

import (
	"bytes"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"nvkv/cmd/nvkv/internal/textrec"
	"nvkv/kv"
)

func newGetCmd(g *globals) *cobra.Command {
	var c coding
	cmd := &cobra.Command{
		Use:   "get STORE KEY",
		Short: "Print the value of a key",
		Long: `Prints the value stored under KEY. Into a file or a pipe go the bytes of the
value and nothing else; on a terminal what cannot be shown is escaped as
"nvkv scan" does, and the line is ended. With --hex or --base64 it is one line
of that everywhere.

If the key is not there the exit code is 3.`,
		Example: `  nvkv get store.nv colour
  nvkv get store.nv photo > photo.jpg
  nvkv get store.nv --hex 00ff`,
		Args: wantArgs("STORE", "KEY"),
	}
	c.addFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		key, err := c.decode("key", args[1])
		if err != nil {
			return err
		}
		return g.view(args[0], func(db *kv.DB) error {
			value, err := db.Get(key)
			if err != nil {
				return fmt.Errorf("%s: %w", quoted(key), err)
			}
			return printValue(cmd.OutOrStdout(), &c, value)
		})
	}
	return cmd
}

func printValue(w io.Writer, c *coding, value []byte) error {
	switch {
	case !c.plain():
		value = append(c.encode(value), '\n')
	case isTerminal(w):
		value = terminalText(value)
	}
	_, err := w.Write(value)
	return err
}

// terminalText returns value with its lines kept and all else escaped that
// could steer a terminal.
func terminalText(value []byte) []byte {
	var out []byte
	for line := range bytes.Lines(value) {
		out = textrec.AppendEscaped(out, bytes.TrimSuffix(line, []byte("\n")))
		out = append(out, '\n')
	}
	if len(out) == 0 {
		out = append(out, '\n')
	}
	return out
}
