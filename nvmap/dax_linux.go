package nvmap

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// daxDevice is a file on a DAX file system: one that lies on memory and maps it directly. Stores
// work as in shmDevice. MAP_SYNC promises that the blocks beneath a page are durable before a store
// reaches it.
type daxDevice struct {
	shmDevice
	keeps persistence
}

func newDAX(fm *fileMap, o OpenOptions) (Device, error) {
	fm.plan = mapPlan{view: true, alias: true, synced: true}
	if err := fm.start(o); err != nil {
		return nil, err
	}
	if fm.openSize > 0 { // fences do not go through the file system, so they would not do this
		if err := fm.confirm(); err != nil {
			fm.release()
			return nil, fmt.Errorf("nvmap: %s: %w", fm.path, err)
		}
	}
	d := &daxDevice{shmDevice{fm}, persistenceOf(fm.f, siteFile)}
	releaseWith(d, fm)
	return d, nil
}

func (d *daxDevice) Info() Info { return d.keeps.info(d.shmDevice.Info(), "dax") }

// devdaxDevice is memory that the kernel offers as a character device. It has no file system,
// cannot grow, and cannot give memory back.
type devdaxDevice struct {
	shmDevice
	keeps persistence
}

func newDevDAX(fm *fileMap, o OpenOptions) (Device, error) {
	sys, err := deviceDir(fm.f, "char")
	if err != nil {
		return nil, fmt.Errorf("nvmap: %s: %w", fm.path, err)
	}
	if subsystem, err := os.Readlink(filepath.Join(sys, "subsystem")); err != nil || filepath.Base(subsystem) != "dax" {
		return nil, fmt.Errorf("nvmap: %s: cannot hold a store: it is a character device, and not one of the DAX subsystem", fm.path)
	}
	size, err := sysNumber(sys, "size")
	if err != nil {
		return nil, fmt.Errorf("nvmap: %s: %w", fm.path, err)
	}
	// The device can be mapped in whole units only. Kernels before 5.10 do not report the unit; it
	// is then 2 MiB on most machines.
	fm.unit = hugeBytes
	if align, err := sysNumber(sys, "align"); err == nil {
		fm.unit = align
	}
	if fm.unit < PageBytes || fm.unit&(fm.unit-1) != 0 || size < fm.unit {
		return nil, fmt.Errorf("nvmap: %s: %d bytes in units of %d cannot be mapped", fm.path, size, fm.unit)
	}
	fm.plan = mapPlan{view: true, alias: true, fixed: size &^ (fm.unit - 1)}
	if err := fm.start(o); err != nil {
		return nil, err
	}
	d := &devdaxDevice{shmDevice{fm}, persistenceOf(fm.f, siteChar)}
	releaseWith(d, fm)
	return d, nil
}

func (d *devdaxDevice) Info() Info { return d.keeps.info(d.shmDevice.Info(), "devdax") }

// Read copies from the mapping, because the device supports no read system call.
func (d *devdaxDevice) Read(off Off, p []byte) error {
	if err := d.check("read", off, int64(len(p)), &d.size); err != nil {
		return err
	}
	return d.peek(p, int64(off))
}

// persistence describes how far memory keeps its contents, according to the kernel.
type persistence struct {
	domain   string
	note     string
	volatile bool
}

// info completes the Info of the shm device.
func (k persistence) info(i Info, kind string) Info {
	i.Kind, i.Domain, i.Volatile = kind, k.domain, k.volatile
	if i.Note != "" && k.note != "" {
		i.Note += "; "
	}
	i.Note += k.note
	return i
}

// persistenceOf finds the region of non-volatile memory that f lies on.
func persistenceOf(f *os.File, at site) persistence {
	class := "block" // the device beneath the file system of f
	if at == siteChar {
		class = "char"
	}
	dir, err := deviceDir(f, class)
	if err != nil {
		return judge("", "", "")
	}
	if parts, err := filepath.Glob(filepath.Join(dir, "slaves", "*")); err == nil && len(parts) > 0 {
		// This is a volume made of several devices. The first stands for all.
		if dir, err = filepath.EvalSymlinks(parts[0]); err != nil {
			return judge("", "", "")
		}
	}
	region := above(dir, regionName)
	if region == "" {
		return judge("", "", "")
	}
	sort, _ := sysWord(region, "devtype")
	domain, _ := sysWord(region, "persistence_domain") // absent where the kernel does not know it
	provider, _ := sysWord(filepath.Dir(region), "provider")
	return judge(sort, domain, provider)
}

// regionName is the name of a region of non-volatile memory in sysfs.
var regionName = regexp.MustCompile(`^region[0-9]+$`)

// judge interprets the kernel's description of a region.
func judge(sort, domain, provider string) persistence {
	switch {
	case provider == "e820":
		return persistence{
			domain:   "memory of this machine that was set aside at boot, emulating NVM",
			volatile: true,
		}
	case sort != "nd_pmem":
		return persistence{
			domain:   "the memory behind the device",
			note:     "the kernel knows no region of non-volatile memory here: nothing says that this memory keeps its contents without power",
			volatile: true,
		}
	case domain == "cpu_cache":
		return persistence{domain: "the CPU's caches: they are written back when the power fails"}
	case domain == "memory_controller":
		return persistence{domain: "the memory controller: what it has accepted is written to the medium when the power fails"}
	}
	return persistence{
		domain: "the memory controller, as far as the firmware tells",
		note:   "the firmware calls this memory non-volatile and does not say from where on: that the memory controller writes out what it has accepted is assumed",
	}
}

// deviceDir returns the sysfs directory of a device: of f itself if f is a device file, else of the
// device that f lies on. The class is "char" or "block".
func deviceDir(f *os.File, class string) (string, error) {
	var st unix.Stat_t
	if err := retryIntr(func() error { return unix.Fstat(int(f.Fd()), &st) }); err != nil {
		return "", err
	}
	dev := uint64(st.Dev)
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		dev = uint64(st.Rdev)
	}
	return filepath.EvalSymlinks(fmt.Sprintf("/sys/dev/%s/%d:%d", class, unix.Major(dev), unix.Minor(dev)))
}

// above returns the nearest directory at or above dir whose name matches, or "".
func above(dir string, name *regexp.Regexp) string {
	for ; len(dir) > 1; dir = filepath.Dir(dir) {
		if name.MatchString(filepath.Base(dir)) {
			return dir
		}
	}
	return ""
}

// sysWord reads the attribute name in dir, without surrounding white space.
func sysWord(dir, name string) (string, error) {
	b, err := os.ReadFile(filepath.Join(dir, name))
	return strings.TrimSpace(string(b)), err
}

func sysNumber(dir, name string) (int64, error) {
	word, err := sysWord(dir, name)
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseInt(word, 0, 64)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", filepath.Join(dir, name), err)
	}
	return n, nil
}
