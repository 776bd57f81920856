// Package boltfile reads and writes the files of go.etcd.io/bbolt without that library.
//
// The library maps a file and trusts it: a branch page that names itself overflows the stack, which
// a program cannot recover from. This package verifies everything. It reads pages with ReadAt, so a
// file that shrinks meanwhile gives an error. It checks every offset before use, and bounds every
// walk by a depth and by the number of pages in the file. Keys must ascend within the bounds that
// the parent page sets. Whatever the file contains, a call ends. Its memory is bounded by the
// largest page or value. It returns the content, or an error that wraps [ErrCorrupt] and names the
// page.
//
// # The format
//
// A file consists of pages of one size. All integers are in the byte order of the machine that
// wrote it; this package reads little-endian files. A page begins with its number (8 bytes), its
// kind (2), its number of elements (2) and the number of overflow pages that follow it (4). Pages 0
// and 1 are metas. Each has the page numbers of the root and the freelist, the number of pages, and
// a transaction number. The newer meta with a good checksum counts. The elements of a leaf are keys
// with values or with nested buckets. The elements of a branch are the first keys of the pages
// below. A nested bucket is a root page and a sequence number or, if it is small, a leaf inside its
// element.
//
// # Reading
//
// [Open] takes the shared lock that bbolt takes (on Unix), so that no other process writes
// meanwhile. [File.Check] checks everything that bbolt's own check does. A File may be used by
// several goroutines. A slice that a callback receives is valid during that call.
//
// # Writing
//
// [Write] streams a file to an io.Writer. The metas come first and refer to pages that come last,
// so Write asks for the content twice, the first time to compute the layout. [Measure] returns the
// length of the file. Keys must come in ascending order.
package boltfile
