package main

import (
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"
)

// coding is the form of keys and values on the command line and in the output: unchanged,
// hexadecimal or base64.
type coding struct {
	hex, base64, keyHex, valueHex bool
}

func (c *coding) addFlags(cmd *cobra.Command) {
	c.addKeyFlags(cmd)
	cmd.Flags().BoolVar(&c.valueHex, "value-hex", false, "values are written in hexadecimal")
	cmd.MarkFlagsMutuallyExclusive("hex", "value-hex")
}

// addKeyFlags is addFlags for a command that has no values.
func (c *coding) addKeyFlags(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&c.hex, "hex", false, "keys and values are written in hexadecimal")
	cmd.Flags().BoolVar(&c.base64, "base64", false, "keys and values are written in base64")
	cmd.Flags().BoolVar(&c.keyHex, "key-hex", false, "keys are written in hexadecimal")
	cmd.MarkFlagsMutuallyExclusive("hex", "base64")
	cmd.MarkFlagsMutuallyExclusive("hex", "key-hex")
}

// form is how bytes are written.
type form int

const (
	formPlain form = iota
	formHex
	formBase64
)

func (c *coding) keys() form   { return formOf(c.hex || c.keyHex, c.base64) }
func (c *coding) values() form { return formOf(c.hex || c.valueHex, c.base64) }

func formOf(hex, base64 bool) form {
	switch {
	case hex:
		return formHex
	case base64:
		return formBase64
	}
	return formPlain
}

// decodeKey returns the bytes of an argument that is a key. what names the argument in an error.
func (c *coding) decodeKey(what, arg string) ([]byte, error) { return c.keys().decode(what, arg) }

// decodeValue returns the bytes of an argument that is a value.
func (c *coding) decodeValue(arg string) ([]byte, error) { return c.values().decode("value", arg) }

func (c *coding) encodeKey(p []byte) []byte   { return c.keys().encode(p) }
func (c *coding) encodeValue(p []byte) []byte { return c.values().encode(p) }

func (f form) decode(what, arg string) (p []byte, err error) {
	switch f {
	case formHex:
		p, err = hex.DecodeString(arg)
	case formBase64:
		p, err = base64.StdEncoding.DecodeString(arg)
	default:
		p = []byte(arg)
	}
	if err != nil {
		return nil, usagef("%s %s: %w", what, quoted([]byte(arg)), plainCodingError(err))
	}
	return p, nil
}

func (f form) encode(p []byte) []byte {
	switch f {
	case formHex:
		return hex.AppendEncode(nil, p)
	case formBase64:
		return base64.StdEncoding.AppendEncode(nil, p)
	}
	return p
}

// plainCodingError describes an error in hexadecimal or base64 without the names of Go's packages.
func plainCodingError(err error) error {
	var digit hex.InvalidByteError
	var place base64.CorruptInputError
	switch {
	case errors.As(err, &digit):
		return fmt.Errorf("%q is no hexadecimal digit", byte(digit))
	case errors.Is(err, hex.ErrLength):
		return errors.New("an odd number of hexadecimal digits")
	case errors.As(err, &place):
		return fmt.Errorf("no base64 from byte %d on", int64(place))
	}
	return err
}

// maxStdinBytes bounds a value read from standard input. The bound of stores is lower.
const maxStdinBytes = 1<<31 - 1

// readStdin returns all of standard input as a value.
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

// quoted returns a key for a message, truncated if it is long.
func quoted(key []byte) string {
	const most = 64
	if len(key) > most {
		return fmt.Sprintf("%q... (%s)", key[:most], plural(len(key), "byte"))
	}
	return fmt.Sprintf("%q", key)
}
