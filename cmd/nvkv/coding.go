package main

import (
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"

	"github.com/spf13/cobra"
)

// coding is how keys and values are written on the command line and in the
// output: as they are, in hexadecimal or in base64.
type coding struct {
	hex, base64 bool
}

func (c *coding) addFlags(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&c.hex, "hex", false, "keys and values are written in hexadecimal")
	cmd.Flags().BoolVar(&c.base64, "base64", false, "keys and values are written in base64")
	cmd.MarkFlagsMutuallyExclusive("hex", "base64")
}

// plain reports that bytes are written as they are.
func (c *coding) plain() bool { return !c.hex && !c.base64 }

// decode returns the bytes that an argument stands for; what names it in the
// error.
func (c *coding) decode(what, arg string) (p []byte, err error) {
	switch {
	case c.hex:
		p, err = hex.DecodeString(arg)
	case c.base64:
		p, err = base64.StdEncoding.DecodeString(arg)
	default:
		p = []byte(arg)
	}
	if err != nil {
		return nil, usagef("%s %q: %w", what, arg, err)
	}
	return p, nil
}

// encode returns p as it is to be written.
func (c *coding) encode(p []byte) []byte {
	switch {
	case c.hex:
		return hex.AppendEncode(nil, p)
	case c.base64:
		return base64.StdEncoding.AppendEncode(nil, p)
	}
	return p
}

// maxStdinBytes bounds a value read from standard input. Stores take less.
const maxStdinBytes = 1<<31 - 1

// readStdin returns all of standard input, which is a value as it is.
func readStdin(cmd *cobra.Command) ([]byte, error) {
	p, err := io.ReadAll(io.LimitReader(cmd.InOrStdin(), maxStdinBytes+1))
	if err != nil {
		return nil, fmt.Errorf("standard input: %w", err)
	}
	if len(p) > maxStdinBytes {
		return nil, fmt.Errorf("standard input: a value of more than %d bytes", maxStdinBytes)
	}
	return p, nil
}

// quoted names a key in a message, the beginning of it where it is long.
func quoted(key []byte) string {
	const most = 64
	if len(key) > most {
		return fmt.Sprintf("%q... (%s)", key[:most], plural(len(key), "byte"))
	}
	return fmt.Sprintf("%q", key)
}
