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

// These are the exit codes.
const (
	exitDone     = 0
	exitFailed   = 1
	exitUsage    = 2
	exitNotFound = 3
	exitLeftOut  = 4
)

// usageError is an error in the command line: exit code 2.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

func usagef(format string, args ...any) error {
	return usageError{fmt.Errorf(format, args...)}
}

// errLeftOut is the result of a command that left out bad records, as requested, and did the rest.
// It has named the records.
var errLeftOut = errors.New("records were left out")

// runError is an error of a command that started to run. Other errors come from cobra, which
// rejected the command line.
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

// explain writes a line on err to stderr and returns the exit code.
func explain(stderr io.Writer, cmd *cobra.Command, err error) int {
	code := exitCode(err)
	var told exited
	if code == exitDone || code == exitLeftOut || errors.As(err, &told) {
		return code
	}
	line := cmd.CommandPath() + ": " + strings.TrimPrefix(oneLine(err), cmd.Name()+" ")
	if code == exitUsage {
		line += "; see " + cmd.CommandPath() + " --help"
	}
	fmt.Fprintln(stderr, line)
	return code
}

func exitCode(err error) int {
	var usage usageError
	var run runError
	var told exited
	switch {
	case err == nil:
		return exitDone
	case errors.As(err, &told):
		return told.code
	case errors.As(err, &usage), !errors.As(err, &run):
		return exitUsage
	case errors.Is(err, errLeftOut):
		return exitLeftOut
	case errors.Is(err, errCutShort):
		return exitFailed
	case errors.Is(err, syscall.EPIPE):
		return exitDone // the reader of our output has read enough
	case errors.Is(err, kv.ErrNotFound):
		return exitNotFound
	}
	return exitFailed
}

// errCutShort marks output of which a part is useless.
var errCutShort = errors.New("a part of it is none")

// oneLine returns err's text in one line, safe for a terminal, and without the names of our
// packages, which do not help a user.
func oneLine(err error) string {
	text := strings.NewReplacer("nvkv: ", "", "nvmap: ", "").Replace(err.Error())
	var lines []string
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); line != "" {
			lines = append(lines, line)
		}
	}
	return shown(strings.Join(lines, "; "))
}
