package conformance_test

import (
	"testing"

	"nvkv/compat"
	"nvkv/compat/conformance"
)

func TestEngines(t *testing.T) {
	for _, name := range compat.Names() {
		t.Run(name, func(t *testing.T) {
			conformance.Run(t, func(dir string) (compat.Engine, error) {
				return compat.Open(name, dir, compat.Options{})
			})
		})
	}
}

// TestEnginesRelaxed checks that relaxed engines differ only in LatestMayBeLost.
func TestEnginesRelaxed(t *testing.T) {
	for _, name := range compat.Names() {
		t.Run(name, func(t *testing.T) {
			conformance.Run(t, func(dir string) (compat.Engine, error) {
				return compat.Open(name, dir, compat.Options{Relaxed: true})
			})
		})
	}
}
