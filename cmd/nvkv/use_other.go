//go:build !unix

package main

import "os"

// fileUse returns the size of the file at path as its use, because this system does not report the
// number of blocks.
func fileUse(path string) (use, error) {
	fi, err := os.Stat(path)
	if err != nil {
		return use{}, err
	}
	return use{fi.Size(), fi.Size()}, nil
}
