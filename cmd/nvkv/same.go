package main

import (
	"fmt"
	"os"
)

// sameFile reports whether two paths lead to one file, also through links. A path without a file is
// never the same.
func sameFile(a, b string) bool {
	x, err := os.Stat(a)
	if err != nil {
		return false
	}
	y, err := os.Stat(b)
	return err == nil && os.SameFile(x, y)
}

// notOnto refuses an output that is the very input, because the output would replace the only copy.
func notOnto(from, to string) error {
	if sameFile(from, to) {
		return fmt.Errorf("%s is %s itself, which is read", to, from)
	}
	return nil
}
