package boltfile

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
)

// These errors are for errors.Is.
var (
	// ErrNotBolt says that the file is not a bbolt file.
	ErrNotBolt = errors.New("boltfile: no bbolt file")
	// ErrCorrupt says that it is a damaged bbolt file. The error names the page.
	ErrCorrupt = errors.New("boltfile: corrupt")
	// ErrLocked says that another process has the file open for writing.
	ErrLocked = errors.New("boltfile: locked by another process")
	// ErrBucketNotFound says that no bucket has the given name.
	ErrBucketNotFound = errors.New("boltfile: bucket not found")
)

const (
	metaMagic   = 0xED0CDAED
	metaVersion = 2

	pageHeader    = 16 // number 8, kind 2, count 2, overflow 4
	branchElement = 16 // position 4, key bytes 4, page 8
	leafElement   = 16 // flags 4, position 4, key bytes 4, value bytes 4
	bucketHeader  = 16 // root 8, sequence 8
	metaBytes     = 64 // after the page header; the last 8 bytes are the checksum

	kindBranch   = 0x01
	kindLeaf     = 0x02
	kindMeta     = 0x04
	kindFreelist = 0x10

	flagBucket = 0x01 // flag of a leaf element: its value is a bucket

	noFreelist = ^uint64(0) // in a meta: there is no freelist, and free pages are found by a walk
	manyFree   = 0xFFFF     // count of a freelist whose first entry is the actual count

	minPageBytes = 1024
	maxPageBytes = 16 << 20

	// MaxKeyBytes and MaxValueBytes are the limits of bbolt.
	MaxKeyBytes   = 32768
	MaxValueBytes = 1<<31 - 2

	// maxDepth bounds the levels of a tree, and the nesting of buckets. A branch has at least two
	// children, so 64 levels hold any file.
	maxDepth = 64
)

var le = binary.LittleEndian

// meta is a decoded meta page.
type meta struct {
	pageBytes int
	root      uint64
	sequence  uint64
	freelist  uint64
	pages     uint64 // page numbers from here on were never used
	tx        uint64
}

// encode returns a whole meta page.
func (m *meta) encode(number uint64) []byte {
	b := make([]byte, m.pageBytes)
	putPageHeader(b, number, kindMeta, 0, 0)
	d := b[pageHeader:]
	le.PutUint32(d[0:], metaMagic)
	le.PutUint32(d[4:], metaVersion)
	le.PutUint32(d[8:], uint32(m.pageBytes))
	le.PutUint64(d[16:], m.root)
	le.PutUint64(d[24:], m.sequence)
	le.PutUint64(d[32:], m.freelist)
	le.PutUint64(d[40:], m.pages)
	le.PutUint64(d[48:], m.tx)
	le.PutUint64(d[56:], metaSum(d))
	return b
}

func metaSum(d []byte) uint64 {
	h := fnv.New64a()
	h.Write(d[:metaBytes-8])
	return h.Sum64()
}

// decodeMeta reads a meta from the beginning of a page.
func decodeMeta(b []byte) (m meta, err error) {
	d := b[pageHeader:]
	magic, version := le.Uint32(d[0:]), le.Uint32(d[4:])
	switch {
	case magic == 0xEDDA0CED: // the bytes of metaMagic in big-endian order
		return m, fmt.Errorf("%w: it was written by a machine of the other byte order", ErrNotBolt)
	case magic != metaMagic:
		return m, fmt.Errorf("%w: no magic number", ErrNotBolt)
	case version != metaVersion:
		return m, fmt.Errorf("%w: format version %d, this package knows %d", ErrNotBolt, version, metaVersion)
	case le.Uint64(d[56:]) != metaSum(d):
		return m, fmt.Errorf("%w: a meta's checksum", ErrCorrupt)
	}
	m = meta{
		pageBytes: int(le.Uint32(d[8:])),
		root:      le.Uint64(d[16:]), sequence: le.Uint64(d[24:]),
		freelist: le.Uint64(d[32:]), pages: le.Uint64(d[40:]), tx: le.Uint64(d[48:]),
	}
	if m.pageBytes < minPageBytes || m.pageBytes > maxPageBytes || m.pageBytes&(m.pageBytes-1) != 0 {
		return m, fmt.Errorf("%w: pages of %d bytes", ErrCorrupt, m.pageBytes)
	}
	return m, nil
}

func putPageHeader(b []byte, number uint64, kind, count uint16, overflow uint32) {
	le.PutUint64(b[0:], number)
	le.PutUint16(b[8:], kind)
	le.PutUint16(b[10:], count)
	le.PutUint32(b[12:], overflow)
}

// page is a page with its overflow pages, or a small bucket inside its element. Its methods check
// every offset against its length.
type page []byte

func (p page) number() uint64   { return le.Uint64(p) }
func (p page) kind() uint16     { return le.Uint16(p[8:]) }
func (p page) count() int       { return int(le.Uint16(p[10:])) }
func (p page) overflow() uint32 { return le.Uint32(p[12:]) }

// slice returns n bytes at position at, relative to the element at base.
func (p page) slice(base int, at, n uint32) ([]byte, bool) {
	from := uint64(base) + uint64(at)
	if from < pageHeader || from+uint64(n) > uint64(len(p)) {
		return nil, false
	}
	return p[from : from+uint64(n) : from+uint64(n)], true
}

// branch returns the i-th key of a branch and the number of its child page.
func (p page) branch(i int) (key []byte, child uint64, ok bool) {
	base := pageHeader + branchElement*i
	if base+branchElement > len(p) {
		return nil, 0, false
	}
	key, ok = p.slice(base, le.Uint32(p[base:]), le.Uint32(p[base+4:]))
	return key, le.Uint64(p[base+8:]), ok
}

// leaf returns the i-th element of a leaf.
func (p page) leaf(i int) (e Entry, ok bool) {
	base := pageHeader + leafElement*i
	if base+leafElement > len(p) {
		return e, false
	}
	at, keyBytes, valueBytes := le.Uint32(p[base+4:]), le.Uint32(p[base+8:]), le.Uint32(p[base+12:])
	if keyBytes > MaxKeyBytes || valueBytes > MaxValueBytes {
		return e, false
	}
	both, ok := p.slice(base, at, keyBytes+valueBytes)
	if !ok {
		return e, false
	}
	e.IsBucket = le.Uint32(p[base:])&flagBucket != 0
	e.Key, e.Value = both[:keyBytes:keyBytes], both[keyBytes:]
	return e, !e.IsBucket || valueBytes >= bucketHeader
}
