//go:build !linux

package main

import (
	"testing"

	"nvkv/internal/effort"
)

func mountSmall(t *testing.T, _ string, _ int64) func() {
	effort.NotTested(t, "mounts need Linux")
	return nil
}
