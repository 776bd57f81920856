package compat

import "sync"

// openReaders are an engine's snapshots that nobody has closed, each with the
// function that releases it. Close of the engine ends them: an open read
// transaction keeps bbolt's Close waiting, and pebble's fails.
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
	o.mu.Lock()
	release := o.release[r]
	delete(o.release, r)
	o.mu.Unlock()
	if release == nil {
		return nil
	}
	return release()
}

// endAll releases every snapshot and returns the first error. The engine's
// gate is closed and empty, so none is in use.
func (o *openReaders) endAll() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	var first error
	for _, release := range o.release {
		if err := release(); err != nil && first == nil {
			first = err
		}
	}
	o.release = nil
	return first
}
