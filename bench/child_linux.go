package bench

import "syscall"

// dieWithParent keeps sessions from outliving a parent that was killed.
func dieWithParent() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}
