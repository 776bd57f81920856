package bench

import (
	"bufio"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"strings"
)

// Machine describes the machine of a benchmark.
type Machine struct {
	CPU        string            `json:"cpu"`
	CPUs       int               `json:"cpus"`
	MemoryMiB  int64             `json:"memory_mib,omitempty"`
	OS         string            `json:"os"`
	Kernel     string            `json:"kernel,omitempty"`
	Go         string            `json:"go"`
	Dir        string            `json:"dir"`
	FileSystem string            `json:"file_system"`
	Medium     string            `json:"medium"` // durability of that file system
	Volatile   bool              `json:"volatile"`
	Versions   map[string]string `json:"versions,omitempty"` // versions of the other engines
}

// DescribeMachine describes this machine and the file system of dir.
func DescribeMachine(dir string) Machine {
	m := Machine{
		CPU: cpuName(), CPUs: runtime.NumCPU(), MemoryMiB: memoryMiB(), Kernel: kernelRelease(),
		OS: runtime.GOOS + "/" + runtime.GOARCH, Go: runtime.Version(), Dir: dir, Versions: moduleVersions(),
	}
	m.FileSystem, m.Volatile = fileSystem(dir)
	m.Medium = "an ordinary file: durable once the kernel has synced it"
	if m.Volatile {
		m.Medium = "emulated NVM: DRAM behind a file system, volatile, without the latency of a medium"
	}
	return m
}

// String returns a description of the machine in one line.
func (m Machine) String() string {
	kernel := m.OS
	if m.Kernel != "" {
		kernel += ", Linux " + m.Kernel
	}
	return fmt.Sprintf("%s, %d CPUs, %d MiB, %s, %s", m.CPU, m.CPUs, m.MemoryMiB, kernel, m.Go)
}

func cpuName() string {
	f, err := os.Open("/proc/cpuinfo")
	if err != nil {
		return runtime.GOARCH
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		name, value, _ := strings.Cut(lines.Text(), ":")
		if name := strings.TrimSpace(name); name == "model name" || name == "Processor" {
			return strings.TrimSpace(value)
		}
	}
	return runtime.GOARCH
}

func moduleVersions() map[string]string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return nil
	}
	versions := map[string]string{}
	for _, d := range info.Deps {
		switch d.Path {
		case "go.etcd.io/bbolt":
			versions["bbolt"] = d.Version
		case "github.com/cockroachdb/pebble/v2":
			versions["pebble"] = d.Version
		}
	}
	return versions
}
