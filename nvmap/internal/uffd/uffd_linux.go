//go:build amd64 || arm64

package uffd

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// FD is a userfaultfd. It belongs to the address space of the process that made it, and works in
// every process that holds a descriptor of it.
type FD int

// These are the ioctls of linux/userfaultfd.h.
const (
	ioAPI          = 0xc018aa3f
	ioRegister     = 0xc020aa00
	ioWake         = 0x8010aa02
	ioCopy         = 0xc028aa03
	ioWriteProtect = 0xc018aa06
	ioContinue     = 0xc020aa07
	ioPoison       = 0xc020aa08
	ioNew          = 0xaa00 // of /dev/userfaultfd

	apiVersion   = 0xaa
	userModeOnly = 1

	registerMissing = 1 << 0
	registerWP      = 1 << 1
	registerMinor   = 1 << 2
)

// features are the features that a region needs, with the kernel that brought each.
var features = []struct {
	bit  uint64
	name string
}{
	{1 << 5, "faults on shared memory (Linux 4.11)"},
	{1 << 10, "minor faults on shared memory (Linux 5.14)"},
	{1 << 12, "write protection of shared memory (Linux 5.19)"},
	{1 << 14, "poisoned pages (Linux 6.6)"},
}

// New returns a userfaultfd that blocks in reads. kernelFaults reports whether faults inside system
// calls are events, too. Without them such a call fails (EFAULT), or reads nothing.
func New() (fd FD, kernelFaults bool, err error) {
	fd, kernelFaults, err = create()
	if err != nil {
		return -1, false, err
	}
	if err := fd.handshake(); err != nil {
		fd.Close()
		return -1, false, err
	}
	return fd, kernelFaults, nil
}

func create() (FD, bool, error) {
	n, _, errno := unix.Syscall(unix.SYS_USERFAULTFD, unix.O_CLOEXEC, 0, 0)
	if errno == 0 {
		return FD(n), true, nil
	}
	if dev, err := os.OpenFile("/dev/userfaultfd", os.O_RDWR, 0); err == nil {
		n, _, e := unix.Syscall(unix.SYS_IOCTL, dev.Fd(), ioNew, unix.O_CLOEXEC)
		dev.Close()
		if e == 0 {
			return FD(n), true, nil
		}
	}
	n, _, user := unix.Syscall(unix.SYS_USERFAULTFD, unix.O_CLOEXEC|userModeOnly, 0, 0)
	if user == 0 {
		return FD(n), false, nil
	}
	switch errno {
	case unix.ENOSYS:
		return -1, false, fmt.Errorf("this kernel has no userfaultfd: %w", errors.Join(errno, errors.ErrUnsupported))
	case unix.EPERM:
		return -1, false, fmt.Errorf("userfaultfd is not allowed here: by sysctl vm.unprivileged_userfaultfd=0 "+
			"without CAP_SYS_PTRACE and without access to /dev/userfaultfd, or by a seccomp profile, as in most containers: %w",
			errors.Join(errno, errors.ErrUnsupported))
	}
	return -1, false, fmt.Errorf("userfaultfd: %w", errors.Join(errno, errors.ErrUnsupported))
}

// handshake asks for the features, and says which of them the kernel lacks. The kernel answers one
// question for each descriptor, so another one asks first.
func (fd FD) handshake() error {
	probe, _, err := create()
	if err != nil {
		return err
	}
	defer probe.Close()
	has := [3]uint64{apiVersion, 0, 0}
	if err := probe.ioctl(ioAPI, unsafe.Pointer(&has)); err != nil {
		return fmt.Errorf("userfaultfd: asking for its features: %w", err)
	}
	var lacks []string
	want := uint64(0)
	for _, f := range features {
		want |= f.bit
		if has[1]&f.bit == 0 {
			lacks = append(lacks, f.name)
		}
	}
	if len(lacks) > 0 {
		return fmt.Errorf("userfaultfd of this kernel lacks %s: %w", strings.Join(lacks, ", "), errors.ErrUnsupported)
	}
	ask := [3]uint64{apiVersion, want, 0}
	if err := fd.ioctl(ioAPI, unsafe.Pointer(&ask)); err != nil {
		return fmt.Errorf("userfaultfd: choosing its features: %w", err)
	}
	return nil
}

func (fd FD) ioctl(op uintptr, arg unsafe.Pointer) error {
	for {
		_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), op, uintptr(arg))
		switch errno {
		case 0:
			return nil
		case unix.EINTR:
			continue
		}
		return errno
	}
}

// Close closes the descriptor. When the last descriptor of a userfaultfd is closed, its ranges
// behave as ordinary memory: missing pages read as zero.
func (fd FD) Close() error { return unix.Close(int(fd)) }

// Register makes the faults of [addr, addr+n) events: missing pages, pages that are there and not
// mapped, and stores to protected pages.
func (fd FD) Register(addr, n uint64) error {
	arg := [4]uint64{addr, n, registerMissing | registerWP | registerMinor, 0}
	return fd.ioctl(ioRegister, unsafe.Pointer(&arg))
}

// Wake lets the threads go on that wait for a page of [addr, addr+n).
func (fd FD) Wake(addr, n uint64) error {
	arg := [2]uint64{addr, n}
	return fd.ioctl(ioWake, unsafe.Pointer(&arg))
}

// Copy makes pages at [addr, addr+len(src)) that hold src, and wakes. If protect is set, the next
// store to each is an event. It returns the number of bytes copied; the error says why it stopped.
func (fd FD) Copy(addr uint64, src []byte, protect bool) (int, error) {
	mode := uint64(0)
	if protect {
		mode = 2
	}
	arg := struct {
		dst  uint64
		src  unsafe.Pointer
		n    uint64
		mode uint64
		done int64
	}{addr, unsafe.Pointer(unsafe.SliceData(src)), uint64(len(src)), mode, 0}
	err := fd.ioctl(ioCopy, unsafe.Pointer(&arg))
	return int(max(arg.done, 0)), err
}

// Continue maps pages that are there at [addr, addr+n), and wakes.
func (fd FD) Continue(addr, n uint64, protect bool) error {
	mode := uint64(0)
	if protect {
		mode = 2
	}
	arg := [4]uint64{addr, n, mode, 0}
	return fd.ioctl(ioContinue, unsafe.Pointer(&arg))
}

// Protect makes the next store to each page of [addr, addr+n) an event. When it returns, no store
// is under way.
func (fd FD) Protect(addr, n uint64) error {
	arg := [3]uint64{addr, n, 1}
	return fd.ioctl(ioWriteProtect, unsafe.Pointer(&arg))
}

// Unprotect lets stores to [addr, addr+n) pass again, and wakes.
func (fd FD) Unprotect(addr, n uint64) error {
	arg := [3]uint64{addr, n, 0}
	return fd.ioctl(ioWriteProtect, unsafe.Pointer(&arg))
}

// Clear removes protection from [addr, addr+n), also where no page is mapped, and wakes nobody.
func (fd FD) Clear(addr, n uint64) error {
	arg := [3]uint64{addr, n, 2}
	return fd.ioctl(ioWriteProtect, unsafe.Pointer(&arg))
}

// Poison makes each access to the missing pages of [addr, addr+n) a SIGBUS, and wakes. MADV_DONTNEED
// in the process of the range undoes it.
func (fd FD) Poison(addr, n uint64) error {
	arg := [4]uint64{addr, n, 0, 0}
	return fd.ioctl(ioPoison, unsafe.Pointer(&arg))
}

// Fault is an event.
type Fault struct {
	Addr  uint64
	Write bool // the access is a store
	Held  bool // the store met protection
	Minor bool // the page is there and not mapped
}

type message struct {
	event uint8
	_     [7]byte
	flags uint64
	addr  uint64
	_     uint64
}

const eventPageFault = 0x12

// Read waits for events and appends them to dst, as many as fit into its capacity.
func (fd FD) Read(dst []Fault) ([]Fault, error) {
	var buf [16]message
	want := min(cap(dst)-len(dst), len(buf))
	p := unsafe.Slice((*byte)(unsafe.Pointer(&buf)), want*int(unsafe.Sizeof(buf[0])))
	for {
		n, err := unix.Read(int(fd), p)
		if errors.Is(err, unix.EINTR) || errors.Is(err, unix.EAGAIN) {
			continue
		}
		if err != nil {
			return dst, err
		}
		for _, m := range buf[:n/int(unsafe.Sizeof(buf[0]))] {
			if m.event == eventPageFault {
				dst = append(dst, Fault{m.addr, m.flags&1 != 0, m.flags&2 != 0, m.flags&4 != 0})
			}
		}
		return dst, nil
	}
}
