package main

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"nvkv/internal/lastwords"
)

// Pebble ends the process after an unexpected error, such as a full disk or damage, also from its
// own goroutines, where the caller cannot recover. So a command that uses pebble runs in a child.
// The parent reports the child's end in one line, and removes its temporary files.

// guardedEnv tells the child that it is one. The child writes its messages to file descriptor
// guardedStderr. Its standard error gets only the last output of Go's runtime or of pebble's
// logger.
const (
	guardedEnv    = "NVKV_GUARDED"
	guardedStderr = 3
)

// standardError returns the file for this process's messages.
func standardError() *os.File {
	if os.Getenv(guardedEnv) == "" {
		return os.Stderr
	}
	lastwords.Hear(func(err error) { fmt.Fprintln(os.Stderr, wordsMark+err.Error()) })
	return os.NewFile(guardedStderr, "stderr")
}

// wordsMark is the beginning of a line from package lastwords.
const wordsMark = "nvkv: pebble met: "

// exited is the exit code of a child that has written its own message.
type exited struct{ code int }

func (e exited) Error() string { return fmt.Sprintf("exit code %d", e.code) }

// guarded runs cmd's command line in a child. In the child it does nothing and returns false.
func guarded(cmd *cobra.Command) (done bool, pid int, err error) {
	if os.Getenv(guardedEnv) != "" {
		return false, 0, nil
	}
	self, err := os.Executable()
	if err != nil {
		return true, 0, err
	}
	child := exec.Command(self, sameArgs(cmd)...)
	child.Env = append(os.Environ(), guardedEnv+"=1", "GOTRACEBACK=none")
	child.Stdin, child.Stdout = cmd.InOrStdin(), cmd.OutOrStdout()
	child.WaitDelay = time.Second // in case a reader does not end
	lastWords := &head{most: 16 << 10}
	child.Stderr = lastWords
	release, err := passStderr(child, cmd.ErrOrStderr())
	if err != nil {
		return true, 0, err
	}
	defer release()
	pid, err = startAndWait(cmd, child)
	var ended *exec.ExitError
	if errors.As(err, &ended) {
		err = childError(ended, lastWords.String())
	}
	if errors.Is(err, exec.ErrWaitDelay) {
		err = nil
	}
	return true, pid, err
}

// childError distinguishes a child that wrote a message from one that was ended.
func childError(ended *exec.ExitError, words string) error {
	for _, mark := range []string{"panic: ", "fatal error: ", "runtime: "} { // of Go's runtime
		if strings.Contains(words, mark) {
			return fmt.Errorf("pebble ended the process: %s", reason(words))
		}
	}
	if ended.Exited() {
		return exited{ended.ExitCode()}
	}
	return fmt.Errorf("the process that did it was ended: %w", ended)
}

// sameArgs returns the command line of cmd.
func sameArgs(cmd *cobra.Command) []string {
	args := strings.Fields(cmd.CommandPath())[1:]
	cmd.Flags().Visit(func(f *pflag.Flag) { args = append(args, "--"+f.Name+"="+f.Value.String()) })
	return append(append(args, "--"), cmd.Flags().Args()...)
}

// passStderr passes our standard error to the child as an additional file.
func passStderr(child *exec.Cmd, to io.Writer) (release func(), err error) {
	if f, ok := to.(*os.File); ok {
		child.ExtraFiles = []*os.File{f}
		return func() {}, nil
	}
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	child.ExtraFiles = []*os.File{w}
	copied := make(chan struct{})
	go func() {
		defer close(copied)
		_, _ = io.Copy(to, r) // a closed output is no failure of the command
	}()
	return func() {
		w.Close()
		<-copied
		r.Close()
	}, nil
}

// startAndWait runs the child. The child has a process group of its own, so that it gets a signal
// from the terminal only once, from us.
func startAndWait(cmd *cobra.Command, child *exec.Cmd) (pid int, err error) {
	leaveGroup(child)
	if err := child.Start(); err != nil {
		return 0, err
	}
	ended := make(chan error, 1)
	go func() { ended <- child.Wait() }()
	select {
	case err = <-ended:
	case <-cmd.Context().Done():
		_ = interrupt(child.Process) // it may have ended
		err = <-ended
	}
	return child.Process.Pid, err
}

// removeStage removes the directory that an interrupted conversion left beside its destination,
// unless it contains the store that was to be replaced.
func removeStage(pattern string) error {
	stages, err := filepath.Glob(pattern)
	for _, dir := range stages {
		if _, old := os.Lstat(filepath.Join(dir, "old")); old == nil {
			err = errors.Join(err, fmt.Errorf("the store that was to be replaced is in %s", dir))
			continue
		}
		err = errors.Join(err, os.RemoveAll(dir))
	}
	return err
}

// reason returns the last error that pebble met, or else the first line of Go's runtime or pebble's
// logger.
func reason(words string) string {
	first, met := "", ""
	for line := range strings.Lines(words) {
		line = strings.TrimSpace(line)
		if after, ok := strings.CutPrefix(line, wordsMark); ok {
			met = after
		} else if first == "" {
			first = line
		}
	}
	return cmp.Or(met, first)
}

// head keeps the beginning of its input.
type head struct {
	bytes.Buffer
	most int
}

func (h *head) Write(p []byte) (int, error) {
	if room := h.most - h.Len(); room > 0 {
		h.Buffer.Write(p[:min(room, len(p))])
	}
	return len(p), nil
}
