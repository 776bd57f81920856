//go:build unix

package main

import (
	"os"
	"os/exec"
	"syscall"
)

func leaveGroup(child *exec.Cmd) { child.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} }

func interrupt(p *os.Process) error { return p.Signal(os.Interrupt) }
