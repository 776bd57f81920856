package compat

import (
	"errors"
	"sync"
)

// openReaders are an engine's open snapshots, each with the function that releases it. The engine's
// Close ends them: with an open one bbolt's Close would wait, pebble's would fail, and nvkv's would
// leave the store locked.
type openReaders struct {
	mu      sync.Mutex
	release map[Reader]func() error // guarded by mu
}

func (o *openReaders) add(r Reader, release func() error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.release == nil {
		o.release = make(map[Reader]func() error)
	}
	o.release[r] = release
}

// end releases r if it is still open.
func (o *openReaders) end(r Reader) error {
	if release := o.forget(r); release != nil {
		return release()
	}
	return nil
}

// forget removes r from the list and returns its release function, or nil if r was removed before.
func (o *openReaders) forget(r Reader) (release func() error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	release = o.release[r]
	delete(o.release, r)
	return release
}

// endAll releases every snapshot. The engine admits no more calls.
func (o *openReaders) endAll() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	var failed []error
	for _, release := range o.release {
		failed = append(failed, release())
	}
	o.release = nil
	return errors.Join(failed...)
}
