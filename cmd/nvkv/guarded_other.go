//go:build !unix

package main

import (
	"os"
	"os/exec"
)

func leaveGroup(*exec.Cmd) {}

// interrupt kills the child, because this system has no signal that asks it to end.
func interrupt(p *os.Process) error { return p.Kill() }
