package bbolt

import (
	"encoding/binary"
	"fmt"

	"go.etcd.io/bbolt/internal/common"
)

// The store's keys and values:
//
//	00                       the database: see meta
//	01 | bucket 8 | key      an item or a nested bucket. The root bucket is number 0
//	02 | bucket 8            a deleted bucket, whose items are still there
//	03                       the mark that the books are right: see full.go
//
// A value begins with a tag: of an item, whose value follows, or of a bucket, of
// which its number, its sequence and its usage follow. Numbers of buckets are
// big-endian in keys and values, all others are varints.
const (
	spaceMeta    = 0x00
	spaceEntry   = 0x01
	spaceGarbage = 0x02
	spaceBooks   = 0x03

	tagItem   = 0x00
	tagBucket = 0x01
	tagMeta   = 0x02

	formatVersion = 1
)

// prefixBytes is what stands before a key.
const prefixBytes = 9

type prefix [prefixBytes]byte

func prefixOf(space byte, bucket uint64) (p prefix) {
	p[0] = space
	binary.BigEndian.PutUint64(p[1:], bucket)
	return p
}

// end returns the first key behind those of the bucket. There are less than 2^64.
func (p prefix) end() prefix { return prefixOf(p[0], binary.BigEndian.Uint64(p[1:])+1) }

var metaKey = []byte{spaceMeta}

// meta is what is known of the database as a whole.
type meta struct {
	page   uint64 // size of the pages that WriteTo writes
	next   uint64 // number of the next bucket
	tx     uint64 // transactions that changed something
	high   int64  // Tx.Size, of which a part may be free
	apart  uint64 // buckets that have pages of their own
	root   uint64 // sequence of the root bucket
	all    usage  // entries of all buckets
	exists bool   // the store has it
}

func (m *meta) layout() layout { return layout{m.page} }

// bytes returns what the entries take in a file.
func (m *meta) bytes() int64 { return m.all.fileBytes(m.layout(), m.apart) }

func (m *meta) encode() []byte {
	b := []byte{tagMeta, formatVersion}
	for _, v := range []uint64{m.page, m.next, m.tx, uint64(m.high), m.apart, m.root} {
		b = binary.AppendUvarint(b, v)
	}
	return m.all.append(b)
}

func decodeMeta(b []byte) (m meta, err error) {
	if len(b) < 2 || b[0] != tagMeta {
		return m, errDamaged("the database's own record")
	}
	if b[1] != formatVersion {
		return m, fmt.Errorf("bbolt on nvkv: buckets of format %d, this program knows %d", b[1], formatVersion)
	}
	r := reader{b[2:], true}
	m = meta{page: r.uvarint(), next: r.uvarint(), tx: r.uvarint(), high: int64(r.uvarint()), apart: r.uvarint(), root: r.uvarint(), exists: true}
	m.all = r.usage()
	if !r.whole() || m.page < minPage || m.page > maxPage || m.page&(m.page-1) != 0 {
		return m, errDamaged("the database's own record")
	}
	return m, nil
}

func errDamaged(what string) error {
	return fmt.Errorf("bbolt on nvkv: %s is not what it must be", what)
}

// bucketEntry is the value of an entry that is a bucket.
type bucketEntry struct {
	common.InBucket
	use usage
}

func (e *bucketEntry) id() uint64 { return uint64(e.RootPage()) }

func (e *bucketEntry) append(b []byte) []byte {
	b = append(b, tagBucket)
	b = binary.BigEndian.AppendUint64(b, e.id())
	b = binary.AppendUvarint(b, e.InSequence())
	return e.use.append(b)
}

// decodeBucket reads an entry; ok says whether it is a bucket's and whole.
func decodeBucket(b []byte) (e bucketEntry, ok bool) {
	in, rest, ok := decodeHead(b)
	if !ok {
		return e, false
	}
	r := reader{rest, true}
	return bucketEntry{in, r.usage()}, r.whole()
}

// decodeHead is decodeBucket without the usage, which begins at rest.
func decodeHead(b []byte) (in common.InBucket, rest []byte, ok bool) {
	if len(b) < prefixBytes || b[0] != tagBucket {
		return in, nil, false
	}
	r := reader{b[prefixBytes:], true}
	in = common.NewInBucket(common.Pgid(binary.BigEndian.Uint64(b[1:])), r.uvarint())
	return in, r.b, r.ok
}

// append writes counts; those of long keys are left out where there are none.
func (u *usage) append(b []byte) []byte {
	n := keyClasses
	for n > 0 && u.keys[n-1] == 0 {
		n--
	}
	for _, v := range append([]uint64{u.buckets, u.bytes, u.weight, uint64(n)}, u.keys[:n]...) {
		b = binary.AppendUvarint(b, v)
	}
	return b
}

// reader takes numbers off a slice.
type reader struct {
	b  []byte
	ok bool
}

func (r *reader) uvarint() uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 {
		r.b, r.ok = nil, false
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *reader) usage() (u usage) {
	u.buckets, u.bytes, u.weight = r.uvarint(), r.uvarint(), r.uvarint()
	n := r.uvarint()
	if n > keyClasses {
		r.ok = false
		return u
	}
	for i := range n {
		u.keys[i] = r.uvarint()
	}
	return u
}

func (r *reader) whole() bool { return r.ok && len(r.b) == 0 }

// value returns the value of an item.
func itemValue(b []byte) []byte { return b[1:len(b):len(b)] }
