package nvmap_test

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"nvkv/internal/effort"
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

// openIn opens a fresh device of the given kind in dir.
func openIn(t *testing.T, dir, kind string) nvmap.Device {
	o := nvmap.OpenOptions{Create: true, MaxBytes: 64 << 20}
	if kind == "file" || kind == "block" {
		o.Kind = kind // the test directory may be on tmpfs
	}
	return open(t, filepath.Join(dir, "store"), kind, o)
}

// hugeDir mounts a hugetlbfs with huge pages of 2 MiB. If too few are reserved, and the test is
// allowed to, it reserves more until the test ends.
func hugeDir(t *testing.T) string {
	const needed = 32 // 64 MiB: the largest device that openIn makes
	free, err := hugePages("free_hugepages")
	if err != nil {
		effort.NotTested(t, "no huge pages here: %v", err)
	}
	if free < needed {
		all, err := hugePages("nr_hugepages")
		must(t, err)
		if err := setHugePages(all + needed - free); err != nil {
			effort.NotTested(t, "too few huge pages set aside (sysctl vm.nr_hugepages): %v", err)
		}
		t.Cleanup(func() { must(t, setHugePages(all)) })
		if free, err = hugePages("free_hugepages"); err != nil || free < needed {
			effort.NotTested(t, "memory is too scattered for %d huge pages: %d, %v", needed, free, err)
		}
	}
	return mount(t, "hugetlbfs", "pagesize=2M")
}

const hugePagesDir = "/sys/kernel/mm/hugepages/hugepages-2048kB/"

func hugePages(name string) (n int, err error) {
	b, err := os.ReadFile(hugePagesDir + name)
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimSpace(string(b)))
}

func setHugePages(n int) error {
	return os.WriteFile(hugePagesDir+"nr_hugepages", strconv.AppendInt(nil, int64(n), 10), 0o644)
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
