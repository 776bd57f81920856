package nvmap

import (
	"errors"
	"fmt"
	"runtime"
)

// Protection says how stray stores are kept away from the bytes of a mapped device. It does not
// cover frames, which are DRAM and meant to be written: a stray store into a frame is like any
// other stray store into the program's memory, until a write-back carries it to the medium.
type Protection uint8

// The protections of a device.
const (
	// ProtectBest is ProtectKey where CPU and kernel have protection keys, else
	// ProtectMapping.
	ProtectBest Protection = iota
	// ProtectKey makes readers' mapping read-only. Stores use a second mapping, which a memory
	// protection key closes to all threads. The store routine opens the key for its own thread
	// while it copies.
	ProtectKey
	// ProtectMapping makes readers' mapping read-only. Stores use a second mapping at another
	// address, which is writable to any code that guesses the address.
	ProtectMapping
	// ProtectNone makes readers' mapping writable too.
	ProtectNone
)

var protectionNames = [...]string{"best", "key", "mapping", "none"}

func (p Protection) String() string {
	if int(p) < len(protectionNames) {
		return protectionNames[p]
	}
	return fmt.Sprintf("protection %d", uint8(p))
}

// A Protector is a device whose protection can be changed while it is in use. SetProtection may be
// called at any time. After an error the earlier protection, or a stricter one, is in force; Info
// reports which.
type Protector interface {
	SetProtection(Protection) error
}

// SetProtection changes the protection of the device. It returns errors.ErrUnsupported if the
// device has none.
func (m *Map) SetProtection(p Protection) error { return setProtection(m.dev, p) }

func setProtection(d Device, p Protection) error {
	if d, ok := d.(Protector); ok {
		return d.SetProtection(p)
	}
	return fmt.Errorf("nvmap: a device of kind %s has no write protection: %w", d.Info().Kind, errors.ErrUnsupported)
}

// pkey is a memory protection key: the bits of the thread's rights register that deny access. 0 is
// no key. All devices of the process share one key, because there are only 15.
//
// Rights belong to a thread. The kernel denies a new key to all threads, threads inherit the rights
// of their creator, and a signal handler runs with the kernel's default, which denies too. So the
// key is open on one thread only, from the first instructions of the store routine to its last. The
// runtime does not preempt assembly, so no other goroutine runs while the key is open. Only a fault
// leaves the routine in the middle, and the code that recovers from it closes the key. Until then
// the goroutine stays on its thread, and the runtime starts no thread from it.
type pkey uint32

// begin locks the goroutine to its thread while the key may be open.
func (k pkey) begin() {
	if k != 0 {
		runtime.LockOSThread()
	}
}

// end is the counterpart of begin. faulted reports that a fault left the store routine in the
// middle.
func (k pkey) end(faulted bool) {
	if k == 0 {
		return
	}
	if faulted {
		k.close()
	}
	runtime.UnlockOSThread()
}

// while runs f with the key open on its thread. It is for accesses that the kernel makes on behalf
// of f. f must not block for long or call back into the program.
func (k pkey) while(f func()) {
	if k != 0 {
		runtime.LockOSThread()
		k.open()
		defer func() {
			k.close()
			runtime.UnlockOSThread()
		}()
	}
	f()
}

// resolve returns the protection that is possible for the one asked for.
func (p Protection) resolve(m mover) (Protection, error) {
	if p == ProtectMapping || p == ProtectNone {
		return p, nil
	}
	key, why := processKey()
	if key != 0 && !m.keyed {
		key, why = 0, fmt.Sprintf("mover %q does not use keys", m.name)
	}
	switch {
	case key != 0:
		return ProtectKey, nil
	case p == ProtectBest:
		return ProtectMapping, nil
	}
	return 0, fmt.Errorf("no memory protection keys: %s: %w", why, errors.ErrUnsupported)
}

// words describes p for Info.
func (p Protection) words() string {
	switch p {
	case ProtectKey:
		return "readers' mapping is read-only; stores go through a second one, which a memory protection key opens to the store routine alone"
	case ProtectMapping:
		return "readers' mapping is read-only; stores go through a second one"
	}
	return protectNone
}

// protectNone is the text of Info.Protect where nothing stops a stray store.
const protectNone = "none"
