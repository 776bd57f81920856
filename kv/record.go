package kv

import (
	"encoding/binary"
	"hash/crc32"
	"time"

	"nvkv/alloc"
	"nvkv/internal/crc32c"
	"nvkv/nvmap"
)

// A record is one version of one key, in one slot, and certifies itself: its
// checksum covers header and body and is seeded with the store, the slab's
// carve number and the slot's offset (A4). Format: docs/format.md, "Record".
//
//	checksum 4 | number 8 | value length 4 | key length 2 | kind 1 | flags 1
//	ordinal 4, count 4      in transactions of several records
//	expiry 8                with a time to live
//	key | value             or the list of runs that hold them
const (
	recSum    = 0
	recNumber = 4
	recValLen = 12
	recKeyLen = 16
	recKind   = 18
	recFlags  = 19
	recHeader = 20

	recMultiBytes  = 8
	recExpiryBytes = 8
	maxRecHeader   = recHeader + recMultiBytes + recExpiryBytes

	kindPut    = 1
	kindDelete = 2
	kindClose  = 3 // ends a group of relaxed mode
	kindRange  = 4 // deletes the keys from its key up to its value
	kindCount  = 5

	flagMulti    = 1 << 0 // ordinal and count follow the header
	flagExpiry   = 1 << 1 // expiry follows
	flagSpill    = 1 << 2 // the value lies in runs
	flagSpillKey = 1 << 3 // the key too, before the value
	flagOpen     = 1 << 4 // of a range: it has no end
	flagKnown    = 1<<5 - 1

	// A run list is: checksum of the bytes in the runs 4, extents 2, then
	// for each its offset 6 and its pages 4.
	runListHeader = 6
	runEntryBytes = 10

	// MaxKeyBytes and MaxValueBytes bound what can be stored.
	MaxKeyBytes   = 1<<16 - 1
	MaxValueBytes = 1 << 30
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// number orders transactions: the run in the high 24 bits, the counter within
// it in the low 40. 0 is no transaction.
type number uint64

const (
	counterBits = 40
	maxCounter  = 1<<counterBits - 1
	maxRun      = 1<<24 - 1
)

func makeNumber(run uint32, counter uint64) number {
	return number(run)<<counterBits | number(counter)
}

func (n number) run() uint32     { return uint32(n >> counterBits) }
func (n number) counter() uint64 { return uint64(n) & maxCounter }

// record is the decoded form. key, value and list alias the medium.
type record struct {
	off     nvmap.Off
	number  number
	ordinal uint32
	count   uint32 // records of the transaction; 1 without flagMulti, 0 in a group
	expiry  int64  // Unix nanoseconds, 0: never
	kind    byte
	flags   byte
	keyLen  int
	valLen  int
	key     []byte // nil where it is in runs
	value   []byte // nil where it is in runs
	list    []byte // run list
	size    int    // bytes in the slot
}

func (r *record) spilled() bool { return r.flags&flagSpill != 0 }

// expired says whether the record is past its time at now, in Unix nanoseconds.
func (r *record) expired(now int64) bool { return r.expiry != 0 && r.expiry <= now }

// headerBytes returns the header's length for a set of flags.
func headerBytes(flags byte) int {
	n := recHeader
	if flags&flagMulti != 0 {
		n += recMultiBytes
	}
	if flags&flagExpiry != 0 {
		n += recExpiryBytes
	}
	return n
}

// parse decodes the record at the beginning of b, which is the rest of its
// slab at most. It believes nothing: false where a length or flag cannot be.
// The checksum is another matter, see recordSum.
func (r *record) parse(b []byte) bool {
	if len(b) < recHeader {
		return false
	}
	le := binary.LittleEndian
	r.number = number(le.Uint64(b[recNumber:]))
	r.valLen = int(le.Uint32(b[recValLen:]))
	r.keyLen = int(le.Uint16(b[recKeyLen:]))
	r.kind, r.flags = b[recKind], b[recFlags]
	h := headerBytes(r.flags)
	if r.flags&^flagKnown != 0 || len(b) < h || r.kind == 0 || r.kind >= kindCount || r.valLen > MaxValueBytes {
		return false
	}
	o := recHeader
	r.ordinal, r.count, r.expiry = 0, 1, 0
	if r.flags&flagMulti != 0 {
		r.ordinal, r.count = le.Uint32(b[o:]), le.Uint32(b[o+4:])
		o += recMultiBytes
	}
	if r.flags&flagExpiry != 0 {
		r.expiry = int64(le.Uint64(b[o:]))
	}
	return r.parseBody(b, h)
}

func (r *record) parseBody(b []byte, h int) bool {
	r.key, r.value, r.list = nil, nil, nil
	o := h
	if r.flags&flagSpillKey == 0 {
		if len(b)-o < r.keyLen {
			return false
		}
		r.key = b[o : o+r.keyLen : o+r.keyLen]
		o += r.keyLen
	}
	if r.flags&flagSpill == 0 {
		if r.flags&flagSpillKey != 0 || len(b)-o < r.valLen {
			return false
		}
		r.value = b[o : o+r.valLen : o+r.valLen]
		r.size = o + r.valLen
		return true
	}
	if len(b)-o < runListHeader {
		return false
	}
	n := runListHeader + runEntryBytes*int(binary.LittleEndian.Uint16(b[o+4:]))
	if len(b)-o < n {
		return false
	}
	r.list = b[o : o+n : o+n]
	r.size = o + n
	return true
}

// recordSum is the checksum of a record whose bytes behind the header are body:
// of the body first, which is computed before the writer's turn, then of the
// header, tied to the record's place.
func recordSum(seed uint64, bodySum uint32, header []byte, carve uint32, off nvmap.Off) uint32 {
	return crc32c.Update(bodySum, header[recNumber:], nil) ^ placeTag(seed, carve, off)
}

// placeTag is what a record's checksum owes to where it lies: the store, the
// slab's carve number and the offset. The same bytes elsewhere do not pass. It
// is mixed as the finalizer of MurmurHash3 does (Appleby, 2008).
func placeTag(seed uint64, carve uint32, off nvmap.Off) uint32 {
	x := seed ^ uint64(off)*0x9e3779b97f4a7c15 ^ uint64(carve)*0xc2b2ae3d27d4eb4f
	x ^= x >> 33
	x *= 0xff51afd7ed558ccd
	x ^= x >> 33
	x *= 0xc4ceb9fe1a85ec53
	return uint32(x >> 32)
}

func bodySum(body []byte) uint32 { return crc32c.Sum(body, nil) }

// sealed verifies the checksum of a parsed record whose bytes begin b.
func (r *record) sealed(b []byte, seed uint64, carve uint32, off nvmap.Off) bool {
	h := headerBytes(r.flags)
	return sealed(b, h, r.size, seed, carve, off)
}

// sealed verifies the checksum of a record with a header of h bytes and end
// bytes in all, in one go.
func sealed(b []byte, h, end int, seed uint64, carve uint32, off nvmap.Off) bool {
	return binary.LittleEndian.Uint32(b) == crc32c.Sum(b[h:end], b[recNumber:h])^placeTag(seed, carve, off)
}

// plain is what readers want of a record whose key and value lie in its slot.
type plain struct{ key, value []byte }

// parse decodes and verifies the record at the beginning of b if it is what most
// are: a put with key and value in the slot that never expires. false says
// that it is none, or damaged: record.parse and record.sealed tell.
func (p *plain) parse(b []byte, seed uint64, carve uint32, off nvmap.Off) bool {
	key, value, end := plainShape(b)
	if key == 0 || !sealed(b, key, end, seed, carve, off) {
		return false
	}
	p.key, p.value = b[key:value:value], b[value:end:end]
	return true
}

// plainShape returns where key and value of a plain record begin, and where it
// ends; zeros if b, in which it lies, does not begin with one.
func plainShape(b []byte) (key, value, end int) {
	if len(b) < recHeader {
		return 0, 0, 0
	}
	w := binary.LittleEndian.Uint64(b[recValLen:]) // lengths, kind and flags
	switch w >> 48 {
	case kindPut:
		key = recHeader
	case kindPut | flagMulti<<8:
		key = recHeader + recMultiBytes
	default:
		return 0, 0, 0
	}
	value = key + int(w>>32&0xffff)
	if end = value + int(w&0xffffffff); uint(end) > uint(len(b)) {
		return 0, 0, 0
	}
	return key, value, end
}

// extents decodes the run list, and the checksum of the bytes in the runs.
func (r *record) extents() (sum uint32, out []alloc.Extent) {
	le := binary.LittleEndian
	sum = le.Uint32(r.list)
	out = make([]alloc.Extent, le.Uint16(r.list[4:]))
	for i := range out {
		b := r.list[runListHeader+runEntryBytes*i:]
		out[i] = alloc.Extent{
			Off:   nvmap.Off(le.Uint32(b)) | nvmap.Off(le.Uint16(b[4:]))<<32,
			Bytes: int64(le.Uint32(b[6:])) * nvmap.PageBytes,
		}
	}
	return sum, out
}

func appendExtents(dst []byte, sum uint32, list []alloc.Extent) []byte {
	le := binary.LittleEndian
	dst = le.AppendUint32(dst, sum)
	dst = le.AppendUint16(dst, uint16(len(list)))
	for _, e := range list {
		dst = le.AppendUint32(dst, uint32(e.Off))
		dst = le.AppendUint16(dst, uint16(e.Off>>32))
		dst = le.AppendUint32(dst, uint32(e.Bytes/nvmap.PageBytes))
	}
	return dst
}

// spilledBytes returns how many bytes of a record lie in runs.
func (r *record) spilledBytes() int64 {
	n := int64(r.valLen)
	if r.flags&flagSpillKey != 0 {
		n += int64(r.keyLen)
	}
	return n
}

// now is the clock by which records expire.
func now() int64 { return time.Now().UnixNano() }
