package kv

import "syscall"

// limitHostile bounds the memory of a process that uses hostile files. An allocation beyond the
// bound ends the process.
func limitHostile() error {
	const most = 4 << 30
	return syscall.Setrlimit(syscall.RLIMIT_AS, &syscall.Rlimit{Cur: most, Max: most})
}
