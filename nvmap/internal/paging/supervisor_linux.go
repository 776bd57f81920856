//go:build amd64 || arm64

package paging

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// Exit codes of a pager.
const (
	exitDone    = 0  // the program has closed the map or is gone; what was stored is written back
	exitRefused = 10 // the medium cannot be opened; the program knows
	exitLost    = 11 // the program is gone, and the medium does not take what was stored
)

// Serve is the main function of a supervisor or a pager. It never returns. It exits by unix.Exit,
// because os.Exit makes a race build sleep for a second.
func Serve(h Hooks) {
	signal.Ignore(unix.SIGINT, unix.SIGTERM, unix.SIGHUP, unix.SIGPIPE) // they end with the program
	role := os.Getenv(RoleVariable)
	if !inherited() {
		fmt.Fprintf(os.Stderr, "nvmap: %s=%q: a pager is started by nvmap.OpenPaged only\n", RoleVariable, role)
		unix.Exit(2)
	}
	sharedFile := os.NewFile(fdShared, "shared")
	sh, conf, err := openShared(sharedFile)
	if err == nil {
		var conn net.Conn
		control := os.NewFile(fdControl, "control")
		if conn, err = net.FileConn(control); err == nil {
			if role == roleSupervisor {
				unix.Exit(supervise(h, sh, conf, conn.(*net.UnixConn), control))
			}
			unix.Exit(serve(h, sh, conf, conn.(*net.UnixConn), control, sharedFile))
		}
	}
	fmt.Fprintf(os.Stderr, "nvmap: pager: %v\n", err)
	unix.Exit(1)
}

// inherited reports whether the process has the descriptors that OpenPaged hands on.
func inherited() bool {
	for fd := fdControl; fd <= fdShared; fd++ {
		var st unix.Stat_t
		if unix.Fstat(fd, &st) != nil || fd == fdControl && st.Mode&unix.S_IFMT != unix.S_IFSOCK {
			return false
		}
		unix.CloseOnExec(fd)
	}
	return true
}

// supervise holds the lock of the medium and keeps a pager running.
func supervise(h Hooks, sh *shared, conf *Config, conn *net.UnixConn, control *os.File) int {
	held, err := h.Open(conf, true)
	if err != nil && atomic.LoadUint64(&sh.h.started) == 0 {
		f := h.Class(err)
		_ = send(conn, &message{Op: "hello", Err: &f})
		return 1
	}
	broken := ""
	if err != nil {
		broken = err.Error() // another user may have it: no pager may touch it
	} else {
		defer held.Close()
	}
	conn.Close() // control is the pager's
	atomic.StoreUint64(&sh.h.supervisor, uint64(os.Getpid()))
	if pager, err := strconv.Atoi(os.Getenv(adoptVariable)); err == nil {
		awaitEnd(pager)
		if atomic.LoadUint64(&sh.h.finished) != 0 {
			return 0
		}
	}
	for pause := time.Duration(0); ; {
		began := time.Now()
		code, err := runPager(control, broken)
		switch {
		case err != nil:
			fmt.Fprintf(os.Stderr, "nvmap: %s: starting a pager: %v\n", conf.Path, err)
		case code == exitDone:
			return 0
		case code == exitRefused, code == exitLost:
			return 1
		}
		if pause = min(2*pause+time.Millisecond, 100*time.Millisecond); time.Since(began) > time.Second {
			pause = 0
		}
		time.Sleep(pause)
	}
}

// awaitEnd returns when a process that is not a child has ended.
func awaitEnd(pid int) {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return // it has ended
	}
	defer unix.Close(fd)
	_ = retry(func() error {
		_, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, -1)
		return err
	})
}

// runPager runs one pager to its end.
func runPager(control *os.File, broken string) (code int, err error) {
	life, ours, err := os.Pipe()
	if err != nil {
		return 0, err
	}
	defer ours.Close()
	defer life.Close()
	cmd, err := inherit(rolePager, control, life)
	if err != nil {
		return 0, err
	}
	cmd.Env = append(cmd.Env, brokenVariable+"="+broken)
	err = cmd.Run()
	closeAll(cmd)
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return exit.ExitCode(), nil
	}
	return 0, err
}

// inherit returns the command of a process of this binary that gets the descriptors of this one,
// and last.
func inherit(role string, control, last *os.File) (*exec.Cmd, error) {
	cmd := Command(nil, role)
	cmd.Args = os.Args
	for _, fd := range []int{int(control.Fd()), fdFaults, fdRegion, fdShared, int(last.Fd())} {
		f, err := dup(fd)
		if err != nil {
			closeAll(cmd)
			return nil, err
		}
		cmd.ExtraFiles = append(cmd.ExtraFiles, f)
	}
	return cmd, nil
}

func closeAll(cmd *exec.Cmd) {
	for _, f := range cmd.ExtraFiles {
		f.Close()
	}
}

// These environment variables tell a pager that its medium may not be opened, and a supervisor
// which pager is at work.
const (
	brokenVariable = "NVMAP_PAGER_BROKEN"
	adoptVariable  = "NVMAP_PAGER_ADOPT"
)

// watchLife starts another supervisor when this pager's has died. The program could not: it may be
// stopped, waiting for a fault. If no supervisor can be started, the pager ends, and the program
// tries. Nothing is lost then: dirty pages and their marks are in shared memory.
func watchLife(control *os.File) {
	life := os.NewFile(fdLife, "life")
	for {
		var b [1]byte
		_, _ = life.Read(b[:])
		life.Close()
		next, theirs, err := os.Pipe()
		var cmd *exec.Cmd
		if err == nil {
			cmd, err = inherit(roleSupervisor, control, theirs)
		}
		if err == nil {
			cmd.Env = append(cmd.Env, fmt.Sprintf("%s=%d", adoptVariable, os.Getpid()))
			err = cmd.Start()
			closeAll(cmd)
			theirs.Close()
		}
		if err != nil {
			fmt.Fprintf(os.Stderr, "nvmap: pager: starting a supervisor: %v\n", err)
			unix.Exit(1)
		}
		go func() { _ = cmd.Wait() }()
		life = next
	}
}

func decode(text []byte) (message, error) {
	var m message
	err := json.Unmarshal(text, &m)
	return m, err
}
