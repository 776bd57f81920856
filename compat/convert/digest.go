package convert

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"hash"
	"time"
)

// A Digest summarizes a sequence of entries. Make one with [NewDigest]: the zero value is not
// usable.
//
// It has a checksum of the sequence, which depends on the order, and one of the set, which does
// not. Every engine yields its entries in order, so source and destination must agree in the first.
// For a source that is not in order, such as a file of JSON lines, the destination must agree in
// the second and be in order, which leaves exactly one sequence.
type Digest struct {
	Entries    int64
	KeyBytes   int64
	ValueBytes int64
	Ascending  bool // each key is greater than the one before

	sequence hash.Hash // SHA-256 of the entries' own digests, in order
	set      [4]uint64 // sum of the entries' own digests, word by word
	last     []byte    // last key
	buf      []byte
}

// NewDigest returns the digest of no entries.
func NewDigest() *Digest {
	return &Digest{Ascending: true, sequence: sha256.New()}
}

// AddUntil appends an entry that expires at expiry. The zero time means never.
func (d *Digest) AddUntil(key, value []byte, expiry time.Time) {
	if d.Entries > 0 && bytes.Compare(key, d.last) <= 0 {
		d.Ascending = false
	}
	d.last = append(d.last[:0], key...)
	d.Entries++
	d.KeyBytes += int64(len(key))
	d.ValueBytes += int64(len(value))

	length := uint64(len(key)) // separates key from value
	if !expiry.IsZero() {
		length |= 1 << 63
	}
	d.buf = binary.LittleEndian.AppendUint64(d.buf[:0], length)
	if !expiry.IsZero() {
		d.buf = binary.LittleEndian.AppendUint64(d.buf, uint64(expiry.UnixNano()))
	}
	d.buf = append(d.buf, key...)
	d.buf = append(d.buf, value...)
	entry := sha256.Sum256(d.buf)
	d.sequence.Write(entry[:])
	for i := range d.set {
		d.set[i] += binary.LittleEndian.Uint64(entry[8*i:])
	}
}

// Checksum returns the checksum of the sequence, in hexadecimal.
func (d *Digest) Checksum() string { return hex.EncodeToString(d.sequence.Sum(nil)) }

// matches returns nil if a destination with the digest got holds the entries of d.
func (d *Digest) matches(got *Digest) error {
	if got.Entries != d.Entries {
		return fmt.Errorf("%d entries were written, but %d are there%s", d.Entries, got.Entries, d.hint())
	}
	if d.Checksum() == got.Checksum() {
		return nil
	}
	if d.Ascending {
		return fmt.Errorf("checksum %s was written, %s is there", d.Checksum(), got.Checksum())
	}
	if d.set != got.set || !got.Ascending {
		return fmt.Errorf("the entries that are there are not those that were written")
	}
	return nil
}

// hint explains why the destination may have fewer entries.
func (d *Digest) hint() string {
	if d.Ascending {
		return ""
	}
	return ": a key seems to occur twice in the source"
}
