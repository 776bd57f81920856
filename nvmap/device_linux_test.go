package nvmap_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"nvkv/nvmap"
)

func init() {
	kinds["shm"] = func(t *testing.T) nvmap.Device { return openIn(t, shmDir(t), "shm") }
	kinds["shm on huge pages"] = func(t *testing.T) nvmap.Device { return openIn(t, hugeDir(t), "shm") }
	kinds["file"] = func(t *testing.T) nvmap.Device { return openIn(t, t.TempDir(), "file") }
	kinds["block"] = func(t *testing.T) nvmap.Device { return openIn(t, t.TempDir(), "block") }
	kinds["block without io_uring"] = func(t *testing.T) nvmap.Device { return nvmap.WithoutRing(openIn(t, t.TempDir(), "block")) }
	kinds["pcie, posing"] = func(t *testing.T) nvmap.Device { return posingWindow(t, 16<<20) }
	kinds["sim over block"] = func(t *testing.T) nvmap.Device { return nvmap.NewSim(openIn(t, t.TempDir(), "block")) }
	kinds["sim over pcie, posing"] = func(t *testing.T) nvmap.Device { return nvmap.NewSim(posingWindow(t, 16<<20)) }
	kinds["sim over shm"] = func(t *testing.T) nvmap.Device { return nvmap.NewSim(openIn(t, shmDir(t), "shm")) }
	kinds["sim over file"] = func(t *testing.T) nvmap.Device { return nvmap.NewSim(openIn(t, t.TempDir(), "file")) }
}

// openIn opens a fresh device of that kind in dir.
func openIn(t *testing.T, dir, kind string) nvmap.Device {
	o := nvmap.OpenOptions{Create: true, MaxBytes: 64 << 20}
	if kind == "file" || kind == "block" {
		o.Kind = kind // the directory for tests may be on tmpfs
	}
	return open(t, filepath.Join(dir, "store"), kind, o)
}

// hugeDir mounts a hugetlbfs if the machine has huge pages set aside.
func hugeDir(t *testing.T) string {
	free, err := os.ReadFile("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages")
	if err != nil || strings.TrimSpace(string(free)) == "0" {
		t.Skip("NOT TESTED: no huge pages set aside (sysctl vm.nr_hugepages)")
	}
	return mount(t, "hugetlbfs", "pagesize=2M")
}

// posingWindow opens a file in memory as if it were a window of a PCI device.
func posingWindow(t *testing.T, size int64) nvmap.Device {
	path := filepath.Join(shmDir(t), "resource2_wc")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, size); err != nil {
		t.Fatal(err)
	}
	d, err := nvmap.OpenPosing(path, nvmap.OpenOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}
