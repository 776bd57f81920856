package compat

import (
	"errors"
	"sync"
)

// openReaders are an engine's snapshots that nobody has closed, each with the
// function that releases it. Close of the engine ends them: with one open
// bbolt's Close would wait, pebble's fail, and nvkv's leave the store locked.
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

// end releases r unless that was done before.
func (o *openReaders) end(r Reader) error {
	if release := o.forget(r); release != nil {
		return release()
	}
	return nil
}

// forget takes r off the list and returns what releases it, or nil if that
// was done before.
func (o *openReaders) forget(r Reader) (release func() error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	release = o.release[r]
	delete(o.release, r)
	return release
}

// endAll releases every snapshot. The engine lets no new calls in any more.
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
