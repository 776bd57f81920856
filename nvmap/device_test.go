package nvmap_test

import (
	"os"
	"testing"

	"nvkv/internal/effort"
	"nvkv/nvmap"
	"nvkv/nvmap/nvmaptest"
)

// kinds has a function for each kind that opens a fresh device that can grow to 64 MiB. Files for
// single systems add more.
var kinds = map[string]func(t *testing.T) nvmap.Device{
	"mem": func(t *testing.T) nvmap.Device { return nvmap.NewMem(64 << 20) },
	"sim": func(t *testing.T) nvmap.Device { return nvmap.NewSim(nvmap.NewMem(64 << 20)) },
	"sim, not mapped and slow": func(t *testing.T) nvmap.Device {
		s := nvmap.NewSim(nvmap.NewMem(64 << 20))
		s.HideMapping()
		s.SetTiming(nvmap.OptaneTiming())
		return s
	},
}

func TestDevices(t *testing.T) {
	for name, open := range kinds {
		t.Run(name, func(t *testing.T) { nvmaptest.TestDevice(t, open) })
	}
}

// shmDir returns a directory on tmpfs that is removed after the test.
func shmDir(t testing.TB) string {
	dir, err := os.MkdirTemp("/dev/shm", "nvmap-test-")
	if err != nil {
		effort.NotTested(t, "no tmpfs to test on: %v", err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// open opens the device at path, which must be of the given kind.
func open(t testing.TB, path, kind string, o nvmap.OpenOptions) nvmap.Device {
	t.Helper()
	d, err := nvmap.OpenDevice(path, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	if got := d.Info().Kind; got != kind {
		t.Fatalf("%s opened as %q, not as %q", path, got, kind)
	}
	return d
}
