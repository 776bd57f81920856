package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"nvkv/internal/effort"
)

// onTerminal runs a command line with output and errors on a terminal, and returns the terminal's
// input.
func onTerminal(t *testing.T, args ...string) string {
	t.Helper()
	master, slave := openTerminal(t)
	got := make(chan string)
	go func() {
		p, _ := io.ReadAll(master) // ends with an error when the other side is closed
		got <- string(p)
	}()
	run(t.Context(), args, strings.NewReader(""), slave, slave)
	slave.Close()
	return <-got
}

func openTerminal(t *testing.T) (master, slave *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		effort.NotTested(t, "no pseudo terminals: %v", err)
	}
	t.Cleanup(func() { master.Close() })
	fd := int(master.Fd())
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	slave, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		effort.NotTested(t, "no pseudo terminals: %v", err)
	}
	return master, slave
}

func TestGetOnTerminal(t *testing.T) {
	store := newStore(t, "k", "\x1b[31mred")
	if got := onTerminal(t, "get", store, "k"); got != `\x1b[31mred`+"\r\n" {
		t.Errorf("got %q", got)
	}
}

func TestLoadProgressOnTerminal(t *testing.T) {
	file := newFile(t, "in.txt", numbered(100_000))
	got := onTerminal(t, "load", newStore(t), file)
	if !strings.Contains(got, file) || !strings.Contains(got, "%") {
		t.Errorf("no progress: %q", got)
	}
	if !strings.Contains(got, "100,000 records put") {
		t.Errorf("no report: %q", got)
	}
}

func TestHeadingOnTerminal(t *testing.T) {
	for _, c := range []struct{ noColor, want string }{{"", "\x1b[1mA\x1b[0m\r\n"}, {"1", "A\r\n"}} {
		t.Setenv("NO_COLOR", c.noColor)
		master, slave := openTerminal(t)
		newTeller(slave).heading("A")
		p := make([]byte, 100)
		if n, err := master.Read(p); err != nil || string(p[:n]) != c.want {
			t.Errorf("NO_COLOR=%q: %q, %v", c.noColor, p[:n], err)
		}
		slave.Close()
	}
}
