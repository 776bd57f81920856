package main

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/pflag"
)

// deviceKinds are the kinds of device for the store of a command.
var deviceKinds = []string{"file", "shm", "dax", "devdax", "pcie", "block"}

var deviceKindList = strings.Join(deviceKinds[:len(deviceKinds)-1], ", ") + " or " + deviceKinds[len(deviceKinds)-1]

// deviceKind is the value of --device. If it is empty, the kind is detected from the path.
type deviceKind string

func (d *deviceKind) String() string { return string(*d) }

// Type names the flag's argument in help texts.
func (d *deviceKind) Type() string { return "kind" }

// Set refuses unknown kinds, and "mem", which makes sense only inside a program.
func (d *deviceKind) Set(kind string) error {
	switch {
	case kind == "mem":
		return errors.New("a store in memory ends with the command that makes it, and keeps nothing")
	case kind != "" && !slices.Contains(deviceKinds, kind):
		return errors.New("no such kind of device: want " + deviceKindList)
	}
	*d = deviceKind(kind)
	return nil
}

// plainFlagError names the flag and the value that it does not accept, without the terms of package
// strconv.
func plainFlagError(err error) error {
	var bad *pflag.InvalidValueError
	if !errors.As(err, &bad) {
		return err
	}
	return fmt.Errorf("--%s %s: %w", bad.GetFlag().Name, quoted([]byte(bad.GetValue())), flagFault(bad))
}

func flagFault(bad *pflag.InvalidValueError) error {
	if errors.Is(bad, strconv.ErrRange) {
		return errors.New("too large")
	}
	switch strings.TrimSuffix(bad.GetFlag().Value.Type(), "Slice") {
	case "int", "int64":
		return errors.New("not a whole number")
	case "uint", "uint64":
		return errors.New("not a whole number from 0 on")
	case "float64":
		return errors.New("not a number")
	case "bool":
		return errors.New("neither true nor false")
	case "duration":
		return errors.New("not a duration, such as 90s or 1h30m")
	case "bytesHex":
		return errors.New("not hexadecimal")
	}
	return errors.Unwrap(bad)
}
