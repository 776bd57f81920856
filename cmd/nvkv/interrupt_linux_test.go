package main

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"nvkv/internal/effort"
)

// TestInterruptWhileInputIsAwaited checks that an interrupt ends a command that waits for its
// input. The command must remove its unfinished output, or keep it and report that.
func TestInterruptWhileInputIsAwaited(t *testing.T) {
	store := newStore(t, "a", "1")
	stream := must(t, "backup", store, "-")
	dir := t.TempDir()
	for _, c := range []struct {
		args  []string
		input string
		left  int // maximum number of files in dir
	}{
		{[]string{"restore", "-", filepath.Join(dir, "restored")}, stream[:len(stream)-10], 0},
		{[]string{"convert", "--from", "jsonl:-", "--to", "nvkv:" + dir + "/converted"}, `{"key":"a","value":"1"}` + "\n", 0},
		{[]string{"put", filepath.Join(dir, "put"), "key", "-"}, "value", 0},
		{[]string{"load", filepath.Join(dir, "loaded"), "-"}, `{"key":"a","value":"1"}` + "\n", 1},
	} {
		cmd := program(t, c.args...)
		var errOut strings.Builder
		cmd.Stderr = &errOut
		stdin, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		// The input is larger than a pipe, so after this write the command is running and waiting.
		if _, err := io.WriteString(stdin, c.input); err != nil {
			t.Fatal(err)
		}
		waitUntilRead(t, stdin)
		if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
			t.Fatal(err)
		}
		cmd.Wait()
		stdin.Close()
		left, err := os.ReadDir(dir)
		if cmd.ProcessState.ExitCode() != exitFailed || !strings.Contains(errOut.String(), "interrupted") || err != nil || len(left) > c.left {
			t.Errorf("nvkv %q: exit %d, stderr %q; left %v, %v", c.args, cmd.ProcessState.ExitCode(), errOut.String(), left, err)
		}
	}
}

// waitUntilRead returns when the other end has read everything in a pipe.
func waitUntilRead(t *testing.T, pipe io.Writer) {
	t.Helper()
	f, ok := pipe.(interface{ Fd() uintptr })
	if !ok {
		t.Fatalf("%T is no file", pipe)
	}
	for range 10_000 {
		n, err := unix.IoctlGetInt(int(f.Fd()), unix.TIOCINQ)
		if err != nil {
			effort.NotTested(t, "the pipe does not tell: %v", err)
		}
		if n == 0 {
			return
		}
		time.Sleep(time.Millisecond)
	}
	t.Fatal("the input is not read")
}
