//go:build !linux

package main

import "testing"

func mountSmall(t *testing.T, _ string, _ int64) func() {
	t.Skip("mounts need Linux")
	return nil
}
