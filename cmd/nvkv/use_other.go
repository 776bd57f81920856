//go:build !unix

package main

import "os"

// fileUse returns the size of the file at path for what it takes: here nothing
// says how many blocks it has.
func fileUse(path string) (use, error) {
	fi, err := os.Stat(path)
	if err != nil {
		return use{}, err
	}
	return use{fi.Size(), fi.Size()}, nil
}
