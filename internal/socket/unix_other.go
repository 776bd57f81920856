//go:build !unix || solaris || illumos || aix

package socket

import "syscall"

func restrict(_, _ string, _ syscall.RawConn) error { return nil }

func lockDirectory(string) (unlock func()) { return func() {} }
