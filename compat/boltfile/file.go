package boltfile

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync/atomic"
)

// File is a bbolt file that is open for reading. If another process writes to it, reads may report
// damage.
type File struct {
	r      io.ReaderAt
	closer func() error
	closed atomic.Bool
	meta   meta
	pages  uint64 // pages in use according to the meta, at most those in the file
}

// Open opens the file at path for reading. It returns ErrLocked if another process has it open for
// writing.
func Open(path string) (*File, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	file, err := openLocked(f)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, errors.Join(err, f.Close()))
	}
	file.closer = f.Close
	return file, nil
}

func openLocked(f *os.File) (*File, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%w: not a regular file", ErrNotBolt)
	}
	if err := lockShared(f); err != nil {
		return nil, err
	}
	if info, err = f.Stat(); err != nil {
		return nil, err
	}
	return NewFile(f, info.Size())
}

// NewFile opens the bbolt file of size bytes in r.
func NewFile(r io.ReaderAt, size int64) (*File, error) {
	m, err := newestMeta(r, size)
	if err != nil {
		return nil, err
	}
	f := &File{r: r, meta: m, pages: uint64(size) / uint64(m.pageBytes)}
	if m.pages > f.pages {
		return nil, fmt.Errorf("%w: it is cut: %d bytes of %d pages of %d", ErrCorrupt, size, m.pages, m.pageBytes)
	}
	f.pages = m.pages
	return f, nil
}

// newestMeta returns the meta that counts. If the first page is damaged, the page size is not
// known, and so neither is the place of the second meta.
func newestMeta(r io.ReaderAt, size int64) (meta, error) {
	first, err := metaAt(r, size, 0)
	if err == nil {
		second, err2 := metaAt(r, size, int64(first.pageBytes))
		if err2 == nil && second.pageBytes == first.pageBytes && second.tx > first.tx {
			return second, nil
		}
		return first, nil
	}
	for bytes := int64(minPageBytes); bytes <= maxPageBytes; bytes *= 2 {
		second, err2 := metaAt(r, size, bytes)
		if err2 == nil && int64(second.pageBytes) == bytes {
			return second, nil
		}
	}
	return meta{}, err
}

func metaAt(r io.ReaderAt, size, at int64) (m meta, err error) {
	b := make([]byte, pageHeader+metaBytes)
	if at+int64(len(b)) > size {
		return m, fmt.Errorf("%w: %d bytes", ErrNotBolt, size)
	}
	if _, err := r.ReadAt(b, at); err != nil {
		return m, err
	}
	return decodeMeta(b)
}

// Close closes the file, which releases its lock. A second call returns nil.
func (f *File) Close() error {
	if f.closed.Swap(true) || f.closer == nil {
		return nil
	}
	return f.closer()
}

// PageBytes returns the size of a page in bytes.
func (f *File) PageBytes() int { return f.meta.pageBytes }

// Pages returns the number of pages that are in use or free.
func (f *File) Pages() int64 { return int64(f.pages) }

// Transaction returns the number of the last transaction. In a new file, and in one that
// Write wrote and nobody changed, the number is 1.
func (f *File) Transaction() uint64 { return f.meta.tx }

// Root returns the root bucket, which contains all others.
func (f *File) Root() *Bucket {
	return &Bucket{file: f, root: f.meta.root, sequence: f.meta.sequence}
}

// corrupt returns an error that wraps ErrCorrupt and names a page.
func corrupt(number uint64, what string, args ...any) error {
	return fmt.Errorf("%w: page %d: %s", ErrCorrupt, number, fmt.Sprintf(what, args...))
}

// read reads a page and its overflow pages into buf, which it enlarges as needed and returns.
func (f *File) read(number uint64, buf []byte) (page, error) {
	if number < 2 || number >= f.pages {
		return nil, corrupt(number, "outside of the %d pages of the file", f.pages)
	}
	size := f.meta.pageBytes
	buf = sized(buf, size)
	at := int64(number) * int64(size)
	if _, err := f.r.ReadAt(buf, at); err != nil {
		return nil, fmt.Errorf("page %d: %w", number, err)
	}
	p := page(buf)
	if p.number() != number {
		return nil, corrupt(number, "it says that it is page %d", p.number())
	}
	more := uint64(p.overflow())
	if more == 0 {
		return p, nil
	}
	if more >= f.pages-number || more*uint64(size) > MaxValueBytes+MaxKeyBytes+2*maxPageBytes {
		return nil, corrupt(number, "%d more pages belong to it, past the end or more than an entry can take", more)
	}
	buf = sized(buf, size*int(more+1))
	if _, err := f.r.ReadAt(buf[size:], at+int64(size)); err != nil {
		return nil, fmt.Errorf("page %d: %w", number, err)
	}
	return page(buf), nil
}

// sized returns b with length n and its old contents.
func sized(b []byte, n int) []byte {
	if cap(b) >= n {
		return b[:n]
	}
	return append(make([]byte, 0, n), b...)[:n]
}
