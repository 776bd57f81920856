//go:build unix

package main

import (
	"os"
	"syscall"
)

// fileUse returns the space that the file at path takes.
func fileUse(path string) (use, error) {
	fi, err := os.Stat(path)
	if err != nil {
		return use{}, err
	}
	u := use{fi.Size(), fi.Size()}
	if st, ok := fi.Sys().(*syscall.Stat_t); ok {
		u.Blocks = st.Blocks * 512
	}
	return u, nil
}
