package convert

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"strings"
)

// A Source yields the entries of a store.
type Source interface {
	// Each calls fn with every entry until fn returns an error, and returns
	// that. It ends with the context's error when ctx is done. The slices are
	// valid during that call of fn only.
	Each(ctx context.Context, fn func(key, value []byte) error) error

	// Count returns the number of entries, or -1 where it is not known without
	// reading them all.
	Count() int64

	Close() error
}

// A Sink takes the entries of a new store.
type Sink interface {
	// Put stores an entry. It keeps nothing of key and value. What it refuses
	// may come with a later call.
	Put(key, value []byte) error

	// Finish makes everything durable and closes the sink.
	Finish() error

	// Abort closes the sink; what was put may be lost. After Finish it does
	// nothing.
	Abort()
}

// A Format is a kind of store.
type Format struct {
	Name string

	// Open opens the store for reading.
	Open func(Location) (Source, error)

	// Create opens a sink at l.Path, where there is nothing, or what Keep left.
	Create func(l Location, force bool) (Sink, error)

	// Directory says that a store is a directory. IsStore then tells a store
	// from other directories, which are never replaced.
	Directory bool
	IsStore   func(path string) bool

	// Buckets says that l.Bucket may follow the path. Keep copies the store
	// that l is a part of to path and returns a function that ends its claim
	// on the original.
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
	Bucket [][]byte // from the outermost in; nil is the whole store
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

// Parse reads FORMAT:PATH or, with formats that have buckets,
// FORMAT:PATH/BUCKET. The path ends at the first file, or at the first name
// that does not exist; what follows are buckets.
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
