package nvmap

import (
	"errors"
	"fmt"
	"runtime"
)

// Protection says what keeps stray stores away from the bytes of a mapped
// device. Frames are DRAM, meant to be written, and under none of it: a stray
// store into one is like any other stray store into the program's memory, until
// a write-back carries it to the medium.
type Protection uint8

// The protections.
const (
	// ProtectBest is ProtectKey where CPU and kernel have protection keys, else
	// ProtectMapping.
	ProtectBest Protection = iota
	// ProtectKey: readers' mapping is read-only. The mapping that stores go
	// through is closed to all threads by a memory protection key, which the
	// store routine opens for its own thread while it copies.
	ProtectKey
	// ProtectMapping: readers' mapping is read-only. The mapping that stores go
	// through lies elsewhere and is open to whoever guesses its address.
	ProtectMapping
	// ProtectNone: readers' mapping is writable too.
	ProtectNone
)

var protectionNames = [...]string{"best", "key", "mapping", "none"}

func (p Protection) String() string {
	if int(p) < len(protectionNames) {
		return protectionNames[p]
	}
	return fmt.Sprintf("protection %d", uint8(p))
}

// A Protector is a device whose protection can be changed while it is in use.
// SetProtection may be called at any time; on an error the one before is in
// force, or a stricter one. Info says which is.
type Protector interface {
	SetProtection(Protection) error
}

// SetProtection changes the protection of the device; errors.ErrUnsupported
// where the device has none.
func (m *Map) SetProtection(p Protection) error { return setProtection(m.dev, p) }

func setProtection(d Device, p Protection) error {
	if d, ok := d.(Protector); ok {
		return d.SetProtection(p)
	}
	return fmt.Errorf("nvmap: a device of kind %s has no write protection: %w", d.Info().Kind, errors.ErrUnsupported)
}

// pkey is a memory protection key, as the bits of the thread's rights register
// that deny it; 0 is none. One key serves all devices of the process: there
// are 15.
//
// The rights belong to the thread. The kernel denies a new key to all threads,
// threads inherit their creator's rights, and a signal handler runs with the
// kernel's default, which denies too. So the key is open on one thread only:
// from the store routine's first instructions to its last. The runtime does not
// preempt assembly, so no other goroutine meets it open. Only a fault leaves
// the routine in the middle, and what recovers from it closes the key: until
// then the goroutine stays on its thread, from which the runtime starts no
// other.
type pkey uint32

// begin keeps the goroutine on its thread while the key may be open.
func (k pkey) begin() {
	if k != 0 {
		runtime.LockOSThread()
	}
}

// end is the counterpart of begin; faulted says that the store routine was left
// in the middle.
func (k pkey) end(faulted bool) {
	if k == 0 {
		return
	}
	if faulted {
		k.close()
	}
	runtime.UnlockOSThread()
}

// while runs f with the key open on its thread: for what the kernel does on our
// behalf. f must not block for long or call back into the program.
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

// resolve turns what was asked for into what can be.
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

// protectNone is what Info.Protect says where nothing stops a stray store.
const protectNone = "none"
