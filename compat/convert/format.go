package convert

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"strings"
	"time"
)

// A Source yields the entries of a store.
type Source interface {
	// Each calls fn with every entry. It stops when fn returns an error and returns that error.
	// When ctx is done it returns the error of ctx. The slices are valid during that call of fn
	// only.
	Each(ctx context.Context, fn func(key, value []byte) error) error

	// Count returns the number of entries, or -1 if that is not known without reading them all.
	Count() int64

	Close() error
}

// A Sink takes the entries of a new store.
type Sink interface {
	// Put stores an entry. It copies key and value. The error may concern an entry of an earlier
	// call.
	Put(key, value []byte) error

	// Finish makes everything durable and closes the sink.
	Finish() error

	// Abort closes the sink and may lose its entries. After Finish it does nothing.
	Abort()
}

// An ExpirySource is a [Source] that knows when its entries expire. It yields no expired entries
// unless Location.Expired is set. The zero time means never.
type ExpirySource interface {
	// EachUntil is Each with the expiry of each entry.
	EachUntil(ctx context.Context, fn func(key, value []byte, expiry time.Time) error) error
}

// An ExpirySink is a [Sink] that keeps expiries.
type ExpirySink interface {
	// PutUntil is Put for an entry that expires at expiry. The zero time means never. It stores an
	// entry that has expired meanwhile.
	PutUntil(key, value []byte, expiry time.Time) error
}

// A Format is a kind of store.
type Format struct {
	Name string

	// Open opens the store for reading.
	Open func(Location) (Source, error)

	// Create opens a sink at l.Path, which is empty or holds the copy that Keep made.
	Create func(l Location, force bool) (Sink, error)

	// Directory says that a store is a directory. IsStore then distinguishes a store from other
	// directories, which are never replaced.
	Directory bool
	IsStore   func(path string) bool

	// Buckets says that l.Bucket may follow the path. Keep copies the store of which l is a part to
	// path, and returns a function that releases its lock on the original.
	Buckets bool
	Keep    func(l Location, path string) (release func() error, err error)
}

// Formats returns the formats of this package.
func Formats() []Format {
	return []Format{engineFormat("nvkv"), bboltFormat(), pebbleFormat()}
}

// A Location is a store, or a bucket in one.
type Location struct {
	Format Format
	Path   string
	Bucket [][]byte // from the outermost to the innermost; nil is the whole store

	// Expired makes a source yield expired entries too, so that entries written a moment ago are
	// found whatever the clock shows.
	Expired bool
}

// String returns the text that Parse reads.
func (l Location) String() string {
	var text strings.Builder
	text.WriteString(l.Format.Name + ":" + l.Path)
	for _, name := range l.Bucket {
		text.WriteString("/" + url.PathEscape(string(name)))
	}
	return text.String()
}

// Parse reads FORMAT:PATH or, for formats with buckets, FORMAT:PATH/BUCKET. The path ends at the
// first file, or at the first name that does not exist. The rest names buckets.
func Parse(text string, formats []Format) (Location, error) {
	name, path, ok := strings.Cut(text, ":")
	if !ok || path == "" {
		return Location{}, fmt.Errorf("%q is not FORMAT:PATH", text)
	}
	for _, f := range formats {
		if f.Name != name {
			continue
		}
		if !f.Buckets {
			return Location{Format: f, Path: path}, nil
		}
		return parseBucket(f, path)
	}
	return Location{}, fmt.Errorf("%q: unknown format %q; known: %s", text, name, names(formats))
}

func names(formats []Format) string {
	list := make([]string, len(formats))
	for i, f := range formats {
		list[i] = f.Name
	}
	return strings.Join(list, ", ")
}

func parseBucket(f Format, path string) (Location, error) {
	file, buckets := path, ""
	for i := 1; i < len(path); i++ {
		if path[i] != '/' || isDirectory(path[:i]) {
			continue
		}
		file, buckets = path[:i], path[i+1:]
		break
	}
	l := Location{Format: f, Path: file}
	if file == path {
		return l, nil
	}
	for escaped := range strings.SplitSeq(buckets, "/") {
		name, err := url.PathUnescape(escaped)
		if err != nil {
			return Location{}, fmt.Errorf("%s:%s: bucket %q: %w", f.Name, path, escaped, err)
		}
		if name == "" {
			return Location{}, fmt.Errorf("%s:%s: a bucket without a name", f.Name, path)
		}
		l.Bucket = append(l.Bucket, []byte(name))
	}
	return l, nil
}

func isDirectory(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}
