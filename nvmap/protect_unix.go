//go:build unix

package nvmap

import (
	"errors"
	"fmt"
	"sync/atomic"
)

// protectionState is the protection in force on a fileMap. It is changed under the fileMap's mutex
// and read without it.
type protectionState struct {
	protection atomic.Uint32 // a Protection, never ProtectBest
	key        atomic.Uint32 // the pkey that guards the alias, or will soon
}

// Protection returns the protection in force.
func (s *protectionState) Protection() Protection { return Protection(s.protection.Load()) }

// pkey returns the key that a store must open.
func (s *protectionState) pkey() pkey { return pkey(s.key.Load()) }

// SetProtection changes the protection while readers and writers run. A writer that faults because
// it did not open the new key tries again; see shmDevice.Write.
func (d *fileMap) SetProtection(p Protection) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed.Load() {
		return ErrClosed
	}
	p, err := d.possible(p)
	if err != nil {
		return err
	}
	if was := d.Protection(); (was == ProtectNone) != (p == ProtectNone) {
		if err := d.view.setWritable(0, d.size.Load(), p == ProtectNone); err != nil {
			return err
		}
		d.protection.Store(uint32(max(p, ProtectMapping)))
	}
	if err := d.guardAlias(p == ProtectKey); err != nil {
		return err
	}
	d.protection.Store(uint32(p))
	return nil
}

// possible returns the protection that this device can have for p. A device without a store routine
// has no alias to guard. A read-only device has no mapping that may become writable.
func (d *fileMap) possible(p Protection) (Protection, error) {
	switch {
	case p > ProtectNone:
		return 0, fmt.Errorf("there is no %v", p)
	case p == ProtectNone && !d.plan.view:
		return 0, fmt.Errorf("nvmap: %s: there is no mapping that could be made writable: %w", d.path, errors.ErrUnsupported)
	case d.ro && p == ProtectNone:
		return 0, fmt.Errorf("%w: %s: its mapping cannot be made writable", ErrReadOnly, d.path)
	case p != ProtectNone && !d.stored:
		return ProtectMapping, nil
	}
	return p.resolve(d.mover)
}

// guardAlias puts the alias under the key of the process, or removes it from the key. Writers look
// up the key before each store, so it is set before the alias needs it and cleared after.
func (d *fileMap) guardAlias(on bool) error {
	was := d.pkey()
	if !d.stored || on == (was != 0) {
		return nil
	}
	k, _ := processKey()
	if on {
		d.key.Store(uint32(k))
	}
	to := d.size.Load()
	if !on {
		k = 0
	}
	if err := d.alias.guard(0, to, k); err != nil {
		return err
	}
	d.key.Store(uint32(k))
	return nil
}
