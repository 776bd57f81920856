package record

import (
	"encoding/binary"

	"nvkv/nvmap"
)

// A record is one version of one key, in one slot. It certifies itself: its checksum covers header
// and body, and depends on the store, the slab's carve number and the slot's offset (A4). Format:
// docs/format.md, "Record".
//
//	checksum 4 | number 8 | value length 4 | key length 2 | kind 1 | flags 1
//	ordinal 4, count 4      in transactions of several records
//	expiry 8                with a time to live
//	key | value             or the list of runs that hold them
const (
	recNumber   = 4 // the checksum lies before it and covers the rest
	recValLen   = 12
	recKeyLen   = 16
	recKind     = 18
	recFlags    = 19
	HeaderBytes = 20

	SumBytes       = recNumber
	MultiBytes     = 8
	ExpiryBytes    = 8
	MaxHeaderBytes = HeaderBytes + MultiBytes + ExpiryBytes

	KindPut    = 1
	KindDelete = 2
	KindClose  = 3 // ends a group of relaxed mode
	KindRange  = 4 // deletes the keys from its key up to its value, exclusively
	KindCount  = 5

	FlagMulti    = 1 << 0 // ordinal and count follow the header
	FlagExpiry   = 1 << 1 // expiry follows
	FlagSpill    = 1 << 2 // the value lies in runs
	FlagSpillKey = 1 << 3 // the key lies in runs too, before the value
	FlagOpen     = 1 << 4 // of a range: it has no upper bound
	flagKnown    = 1<<5 - 1

	// MaxKeyBytes and MaxValueBytes are the largest lengths of a key and of a value.
	MaxKeyBytes   = 1<<16 - 1
	MaxValueBytes = 1 << 30

	// MaxRangeEnd is the largest length of the end of a range. It is above that of every key.
	MaxRangeEnd = MaxKeyBytes + 1
)

// Record is a decoded record. Key, Value and List alias the bytes that were parsed.
type Record struct {
	Off     nvmap.Off
	Number  Number
	Ordinal uint32
	Count   uint32 // records of the transaction: 1 without FlagMulti, 0 in a group of relaxed mode
	Expiry  int64  // Unix nanoseconds; 0: never
	Kind    byte
	Flags   byte
	KeyLen  int
	ValLen  int
	Key     []byte // nil if it lies in runs
	Value   []byte // nil if it lies in runs
	List    []byte // run list; nil if the value lies in the slot
	Size    int    // bytes in the slot
}

// Spilled says whether the value lies in runs.
func (r *Record) Spilled() bool { return r.Flags&FlagSpill != 0 }

// Expired says whether the record has expired at the time now, in Unix nanoseconds.
func (r *Record) Expired(now int64) bool { return r.Expiry != 0 && r.Expiry <= now }

// HeaderLen returns the length in bytes of a header with these flags.
func HeaderLen(flags byte) int {
	n := HeaderBytes
	if flags&FlagMulti != 0 {
		n += MultiBytes
	}
	if flags&FlagExpiry != 0 {
		n += ExpiryBytes
	}
	return n
}

// PutHeader writes the header of a record to b, except the checksum, and returns its length. It
// takes number, lengths, kind and flags from r, and ordinal, count and expiry if the flags name
// them.
func (r *Record) PutHeader(b []byte) int {
	le := binary.LittleEndian
	le.PutUint64(b[recNumber:], uint64(r.Number))
	le.PutUint32(b[recValLen:], uint32(r.ValLen))
	le.PutUint16(b[recKeyLen:], uint16(r.KeyLen))
	b[recKind], b[recFlags] = r.Kind, r.Flags
	o := HeaderBytes
	if r.Flags&FlagMulti != 0 {
		le.PutUint32(b[o:], r.Ordinal)
		le.PutUint32(b[o+4:], r.Count)
		o += MultiBytes
	}
	if r.Flags&FlagExpiry != 0 {
		le.PutUint64(b[o:], uint64(r.Expiry))
		o += ExpiryBytes
	}
	return o
}

// valueMost is the largest length of a value, by the kind of its record.
var valueMost = [KindCount]uint32{KindPut: MaxValueBytes, KindRange: MaxRangeEnd}

// Parse decodes the record at the beginning of b, which must not reach beyond the record's slab. It
// returns false if a length or a flag is impossible. It does not compare the checksum: see Sealed.
func (r *Record) Parse(b []byte) bool {
	if len(b) < HeaderBytes {
		return false
	}
	le := binary.LittleEndian
	r.Number = Number(le.Uint64(b[recNumber:]))
	r.ValLen = int(le.Uint32(b[recValLen:]))
	r.KeyLen = int(le.Uint16(b[recKeyLen:]))
	r.Kind, r.Flags = b[recKind], b[recFlags]
	h := HeaderLen(r.Flags)
	if r.Flags&^flagKnown != 0 || len(b) < h || r.Kind == 0 || r.Kind >= KindCount || uint32(r.ValLen) > valueMost[r.Kind] {
		return false
	}
	o := HeaderBytes
	r.Ordinal, r.Count, r.Expiry = 0, 1, 0
	if r.Flags&FlagMulti != 0 {
		r.Ordinal, r.Count = le.Uint32(b[o:]), le.Uint32(b[o+4:])
		o += MultiBytes
	}
	if r.Flags&FlagExpiry != 0 {
		r.Expiry = int64(le.Uint64(b[o:]))
	}
	return r.parseBody(b, h)
}

func (r *Record) parseBody(b []byte, h int) bool {
	r.Key, r.Value, r.List = nil, nil, nil
	o := h
	if r.Flags&FlagSpillKey == 0 {
		if len(b)-o < r.KeyLen {
			return false
		}
		r.Key = b[o : o+r.KeyLen : o+r.KeyLen]
		o += r.KeyLen
	}
	if r.Flags&FlagSpill == 0 {
		if r.Flags&FlagSpillKey != 0 || len(b)-o < r.ValLen {
			return false
		}
		r.Value = b[o : o+r.ValLen : o+r.ValLen]
		r.Size = o + r.ValLen
		return true
	}
	n, ok := RunListBytes(b[o:])
	if !ok || int64(len(b)-o) < n {
		return false
	}
	r.Size = o + int(n)
	r.List = b[o:r.Size:r.Size]
	return true
}

// SpilledBytes returns how many bytes of the record lie in runs.
func (r *Record) SpilledBytes() int64 {
	n := int64(r.ValLen)
	if r.Flags&FlagSpillKey != 0 {
		n += int64(r.KeyLen)
	}
	return n
}
