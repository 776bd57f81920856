package convert

import (
	"context"
	"os"
	"path/filepath"
	"time"

	"nvkv/compat"
	"nvkv/kv"
)

// These bound a batch; the first that is reached ends it.
const (
	engineEntries = 4096
	engineBytes   = 1 << 20
)

func pebbleFormat() Format {
	f := engineFormat("pebble")
	f.Directory = true
	f.IsStore = isPebble
	return f
}

// isPebble looks for the file that names pebble's manifest.
func isPebble(path string) bool {
	for _, pattern := range []string{"marker.manifest.*", "CURRENT"} {
		if found, _ := filepath.Glob(filepath.Join(path, pattern)); len(found) > 0 { // the pattern is well formed
			return true
		}
	}
	return false
}

// engineFormat is the format of an engine without buckets.
func engineFormat(name string) Format {
	return Format{
		Name: name,
		Open: func(l Location) (Source, error) {
			if _, err := os.Stat(l.Path); err != nil {
				return nil, err
			}
			o := compat.Options{ReadOnly: true, RawKeys: true}
			if l.Expired {
				o.Nvkv = stopClock
			}
			e, err := compat.OpenPath(name, l.Path, o)
			if err != nil {
				return nil, err
			}
			if expirer, ok := e.(compat.Expirer); ok {
				return expirySource{engineSource{e}, expirer}, nil
			}
			return engineSource{e}, nil
		},
		Create: func(l Location, _ bool) (Sink, error) {
			// Relaxed, because nothing counts before Finish, which flushes.
			e, err := compat.OpenPath(name, l.Path, compat.Options{Relaxed: true, RawKeys: true, Nvkv: stopClock})
			if err != nil {
				return nil, err
			}
			sink := &engineSink{e, batch{maxEntries: engineEntries, maxBytes: engineBytes}}
			if _, ok := e.(compat.Expirer); ok {
				return expirySink{sink}, nil
			}
			return sink, nil
		},
	}
}

// stopClock makes nothing expire in a store that is not published yet, so that every written entry
// is there when it is read back.
func stopClock(o *kv.Options) { o.Clock = func() time.Time { return time.Time{} } }

// engineSource reads one snapshot.
type engineSource struct{ engine compat.Engine }

func (s engineSource) Each(ctx context.Context, fn func(key, value []byte) error) error {
	var failed error
	err := s.engine.Scan(nil, -1, func(key, value []byte) bool {
		if failed = ctx.Err(); failed == nil {
			failed = fn(key, value)
		}
		return failed == nil
	})
	if failed != nil {
		return failed
	}
	return err
}

// expirySource is an engineSource of an engine whose entries may expire.
type expirySource struct {
	engineSource
	expirer compat.Expirer
}

func (s expirySource) EachUntil(ctx context.Context, fn func(key, value []byte, expiry time.Time) error) error {
	var failed error
	err := s.expirer.ScanExpiry(nil, -1, func(key, value []byte, expiry time.Time) bool {
		if failed = ctx.Err(); failed == nil {
			failed = fn(key, value, expiry)
		}
		return failed == nil
	})
	if failed != nil {
		return failed
	}
	return err
}

// Count asks the engines that know their number of keys.
func (s engineSource) Count() int64 {
	if counting, ok := s.engine.(interface{ Len() int64 }); ok {
		return counting.Len()
	}
	return -1
}

func (s engineSource) Close() error { return s.engine.Close() }

// engineSink writes in batches.
type engineSink struct {
	engine compat.Engine
	batch
}

func (s *engineSink) Put(key, value []byte) error { return s.put(key, value, time.Time{}) }

func (s *engineSink) put(key, value []byte, expiry time.Time) error {
	if s.full(key, value) {
		if err := s.write(); err != nil {
			return err
		}
	}
	s.add(key, value, expiry)
	return nil
}

// expirySink is an engineSink of an engine that keeps expiries.
type expirySink struct{ *engineSink }

func (s expirySink) PutUntil(key, value []byte, expiry time.Time) error {
	return s.put(key, value, expiry)
}

func (s *engineSink) write() error {
	err := s.engine.WriteBatch(s.ops)
	s.reset()
	return err
}

func (s *engineSink) Finish() error {
	if err := s.write(); err != nil {
		return err
	}
	if err := s.engine.Flush(); err != nil {
		return err
	}
	return s.engine.Close()
}

func (s *engineSink) Abort() { s.engine.Close() } // the caller removes the store
