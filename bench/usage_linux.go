package bench

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// procField returns the number behind name in a file of "name: number" lines.
func procField(path, name string) (int64, bool) {
	text, err := os.ReadFile(path)
	if err != nil {
		return 0, false
	}
	for line := range bytes.Lines(text) {
		head, value, found := bytes.Cut(line, []byte(":"))
		if !found || string(head) != name {
			continue
		}
		words := bytes.Fields(value)
		if len(words) == 0 {
			return 0, false
		}
		n, err := strconv.ParseInt(string(words[0]), 10, 64)
		return n, err == nil
	}
	return 0, false
}

// rssAnon returns the anonymous memory of this process, in bytes.
func rssAnon() int64 {
	kib, _ := procField("/proc/self/status", "RssAnon")
	return kib << 10
}

// cpuTime returns the CPU time of this process so far, including system time.
func cpuTime() time.Duration {
	var u unix.Rusage
	if unix.Getrusage(unix.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// machineTime returns the CPU time of all processes of the machine so far, including time that a
// hypervisor gave to others.
func machineTime() time.Duration {
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0
	}
	line, _, _ := bytes.Cut(text, []byte("\n"))
	var ticks int64
	for i, word := range bytes.Fields(line) {
		const name, idle, waiting, guest = 0, 4, 5, 9 // user time includes guest time
		n, err := strconv.ParseInt(string(word), 10, 64)
		if i != name && i != idle && i != waiting && i < guest && err == nil {
			ticks += n
		}
	}
	return time.Duration(ticks) * clockTick
}

func memoryMiB() int64 {
	kib, _ := procField("/proc/meminfo", "MemTotal")
	return kib >> 10
}

func kernelRelease() string {
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return ""
	}
	return unix.ByteSliceToString(u.Release[:])
}

var fileSystemNames = map[int64]string{
	unix.TMPFS_MAGIC: "tmpfs", unix.HUGETLBFS_MAGIC: "hugetlbfs", unix.EXT4_SUPER_MAGIC: "ext4", unix.XFS_SUPER_MAGIC: "xfs",
	unix.BTRFS_SUPER_MAGIC: "btrfs", unix.OVERLAYFS_SUPER_MAGIC: "overlay", unix.NFS_SUPER_MAGIC: "nfs", unix.F2FS_SUPER_MAGIC: "f2fs",
	0x2fc12fc1: "zfs",
}

// fileSystem returns the name of the file system of dir, and whether it loses everything without
// power.
func fileSystem(dir string) (name string, volatile bool) {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return "unknown", false
	}
	magic := int64(s.Type)
	name, known := fileSystemNames[magic]
	if !known {
		name = fmt.Sprintf("unknown (%#x)", magic)
	}
	return name, magic == unix.TMPFS_MAGIC || magic == unix.HUGETLBFS_MAGIC
}
