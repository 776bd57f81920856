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
	var (
		c      coding
		asJSON bool
	)
	cmd := &cobra.Command{
		Use:        "get STORE KEY",
		SuggestFor: []string{"cat", "read", "show", "fetch"},
		Short:      "Print the value of a key",
		Long: `Prints the value stored under KEY. Into a file or a pipe go the bytes of the
value and nothing else; on a terminal what cannot be shown is escaped as
"nvkv scan" does, and the line is ended. With --hex or --base64 it is one line
of that everywhere. With --json it is an object as "nvkv dump" writes it, which
says when the key expires, if it does.

If the key is not there the exit code is 3.`,
		Example: `  nvkv get store.nv colour
  nvkv get store.nv photo > photo.jpg
  nvkv get store.nv --hex 00ff
  nvkv get store.nv session/7 --json`,
		Args: wantArgs("STORE", "KEY"),
	}
	c.addFlags(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print key, value and expiry as JSON")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		key, err := c.decodeKey("key", args[1])
		if err != nil {
			return err
		}
		return g.read(cmd, args[0], nil, func(db reader) error {
			out := cmd.OutOrStdout()
			if own, ok := db.(local); ok && c.values() == formPlain && !asJSON && !isTerminal(out) {
				return copyValue(out, own.db, key)
			}
			rec, err := db.get(cmd.Context(), key)
			switch {
			case err != nil:
				return fmt.Errorf("%s: %w", quoted(key), err)
			case asJSON:
				w := textrec.NewWriter(cmd.OutOrStdout(), textrec.JSONL)
				w.Write(rec) // the writer keeps its error
				return w.Flush()
			}
			return printValue(cmd.OutOrStdout(), &c, rec.Value)
		})
	}
	return cmd
}

// copyValue writes the bytes of a value, part by part. It verifies all of them before it writes one.
func copyValue(w io.Writer, db *kv.DB, key []byte) error {
	return db.View(func(tx *kv.Tx) error {
		r, err := tx.Reader(key)
		if err != nil {
			return fmt.Errorf("%s: %w", quoted(key), err)
		}
		_, err = r.WriteTo(w)
		return err
	})
}

func printValue(w io.Writer, c *coding, value []byte) error {
	switch {
	case c.values() != formPlain:
		value = append(c.encodeValue(value), '\n')
	case isTerminal(w):
		value = terminalText(value)
	}
	_, err := w.Write(value)
	return err
}

// terminalText returns value with its lines kept. It escapes all characters that could control a
// terminal.
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
