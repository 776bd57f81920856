package main

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"nvkv/kv"
)

// Exit codes.
const (
	exitDone     = 0
	exitFailed   = 1
	exitUsage    = 2
	exitNotFound = 3
)

// usageError is a command line that cannot be meant: exit code 2.
type usageError struct{ error }

func usagef(format string, args ...any) error {
	return usageError{fmt.Errorf(format, args...)}
}

// runError is an error of a command that started to run. The others come from
// cobra, which did not understand the command line.
type runError struct{ error }

func (e runError) Unwrap() error { return e.error }

// markRunErrors makes every command below cmd return runErrors.
func markRunErrors(cmd *cobra.Command) {
	if inner := cmd.RunE; inner != nil {
		cmd.RunE = func(cmd *cobra.Command, args []string) error {
			if err := inner(cmd, args); err != nil {
				return runError{err}
			}
			return nil
		}
	}
	for _, c := range cmd.Commands() {
		markRunErrors(c)
	}
}

// explain tells stderr about err, in one line, and returns the exit code.
func explain(stderr io.Writer, cmd *cobra.Command, err error) int {
	code := exitCode(err)
	if code == exitDone {
		return code
	}
	line := cmd.CommandPath() + ": " + oneLine(err)
	if code == exitUsage {
		line += "; see " + cmd.CommandPath() + " --help"
	}
	fmt.Fprintln(stderr, line)
	return code
}

func exitCode(err error) int {
	var usage usageError
	var run runError
	switch {
	case err == nil, errors.Is(err, syscall.EPIPE):
		return exitDone // whoever read our output has seen enough
	case errors.As(err, &usage), !errors.As(err, &run):
		return exitUsage
	case errors.Is(err, kv.ErrNotFound):
		return exitNotFound
	}
	return exitFailed
}

// oneLine returns err's text without line ends and without the names of our
// packages, which tell a user nothing.
func oneLine(err error) string {
	text := strings.NewReplacer("nvkv: ", "", "nvmap: ", "").Replace(err.Error())
	return strings.Join(strings.Fields(strings.ReplaceAll(text, "\n", " ")), " ")
}
