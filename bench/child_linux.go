package bench

import "syscall"

// dieWithParent makes a session end when its parent is killed.
func dieWithParent() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}
