package convert

import (
	"context"
	"os"
	"path/filepath"

	"nvkv/compat"
)

// Bounds of a batch, whichever is met first.
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

// isPebble looks for the file by which pebble finds its manifest.
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
			e, err := compat.OpenPath(name, l.Path, compat.Options{ReadOnly: true, RawKeys: true})
			if err != nil {
				return nil, err
			}
			return engineSource{e}, nil
		},
		Create: func(l Location, _ bool) (Sink, error) {
			// Relaxed, because nothing counts before Finish, which flushes.
			e, err := compat.OpenPath(name, l.Path, compat.Options{Relaxed: true, RawKeys: true})
			if err != nil {
				return nil, err
			}
			return &engineSink{e, batch{maxEntries: engineEntries, maxBytes: engineBytes}}, nil
		},
	}
}

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

// Count asks the engines that know.
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

func (s *engineSink) Put(key, value []byte) error {
	if s.full(key, value) {
		if err := s.write(); err != nil {
			return err
		}
	}
	s.add(key, value)
	return nil
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

func (s *engineSink) Abort() { s.engine.Close() } // the store is thrown away
