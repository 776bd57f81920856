package nvmap

import (
	"fmt"
	"sync"
)

// registered are the devices and policies of other packages.
var registered struct {
	mu      sync.RWMutex
	devices map[string]func(path string, o OpenOptions) (Device, error)
}

// RegisterDevice makes OpenDevice know a kind of device. OpenDevice then calls open with all its
// options; locking is up to open, unless OpenOptions.NoLock is set. If a device gathers writes in
// memory, its Fence must write them out: a transparent map fences the pages that it evicts.
// RegisterDevice panics if the kind exists.
func RegisterDevice(kind string, open func(path string, o OpenOptions) (Device, error)) {
	registered.mu.Lock()
	defer registered.mu.Unlock()
	switch kind {
	case "", "mem", "shm", "file", "dax", "devdax", "pcie", "block":
		panic(fmt.Sprintf("nvmap: the device kind %q belongs to the package", kind))
	}
	if registered.devices[kind] != nil {
		panic(fmt.Sprintf("nvmap: the device kind %q is registered twice", kind))
	}
	if registered.devices == nil {
		registered.devices = map[string]func(string, OpenOptions) (Device, error){}
	}
	registered.devices[kind] = open
}

func registeredDevice(kind string) func(path string, o OpenOptions) (Device, error) {
	registered.mu.RLock()
	defer registered.mu.RUnlock()
	return registered.devices[kind]
}

// RegisterPolicy makes NewPolicy know a policy. It panics if the name exists.
func RegisterPolicy(name string, make func() Policy) {
	registered.mu.Lock()
	defer registered.mu.Unlock()
	if name == "" || policies[name] != nil {
		panic(fmt.Sprintf("nvmap: there is a cache policy %q", name))
	}
	policies[name] = make
}
