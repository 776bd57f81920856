//go:build !purego

package nvmap

import (
	"fmt"
	"math/bits"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

// processKey returns the key of this process, or the reason why there is none.
var processKey = sync.OnceValues(allocateKey)

func allocateKey() (k pkey, why string) {
	const osUsesKeys = 1 << 4    // in ECX
	const disableAccess = 1 << 0 // PKEY_DISABLE_ACCESS
	if maxLeaf, _, _, _ := cpuid(0, 0); maxLeaf < 7 {
		return 0, "this CPU has none"
	}
	if _, _, features, _ := cpuid(7, 0); features&osUsesKeys == 0 {
		return 0, "this CPU has none, or the kernel does not use them"
	}
	before := threadRights()
	n, _, errno := unix.RawSyscall(unix.SYS_PKEY_ALLOC, 0, disableAccess, 0)
	if errno != 0 {
		return 0, fmt.Sprintf("the kernel grants none: %v", errno)
	}
	if before>>(2*n)&disableAccess == 0 { // an administrator may have changed the default
		_, _, _ = unix.RawSyscall(unix.SYS_PKEY_FREE, n, 0, 0)
		return 0, "here threads are not denied the keys of others"
	}
	return 3 << (2 * n), ""
}

// threadRights returns the rights register of this thread. It has two bits for each key: the lower
// denies all access, the upper denies stores.
func threadRights() uint32

// setThreadRights sets the register. The caller is locked to its thread.
func setThreadRights(rights uint32)

func (k pkey) open()  { setThreadRights(threadRights() &^ uint32(k)) }
func (k pkey) close() { setThreadRights(threadRights() | uint32(k)) }

// guard puts [from, to), which is mapped for storing, under key k. Key 0 removes the range from any
// key.
func (r *region) guard(from, to int64, k pkey) error {
	if from >= to {
		return nil
	}
	number := uintptr(0)
	if k != 0 {
		number = uintptr(bits.TrailingZeros32(uint32(k)) / 2)
	}
	_, _, errno := unix.Syscall6(unix.SYS_PKEY_MPROTECT, uintptr(unsafe.Pointer(r.at(from))), uintptr(to-from),
		unix.PROT_READ|unix.PROT_WRITE, number, 0, 0)
	if errno != 0 {
		return fmt.Errorf("nvmap: guarding %d bytes at %#x: %w", to-from, from, errno)
	}
	return nil
}
