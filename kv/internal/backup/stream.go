package backup

import (
	"encoding/binary"
	"hash/crc32"
)

// Sizes in bytes, and offsets. Format: docs/backup.md.
const (
	magic   = 0x5055_4b42_766b_766e // "nvkvBKUP"
	version = 1

	HeaderBytes  = 64
	headerSum    = 60
	chunkHeader  = 8
	trailerBytes = 16
	recordHeader = 7
	flagExpiry   = 1 << 0

	// ChunkBytes bounds a payload: what a reader must hold before it can
	// believe any of it.
	ChunkBytes = 256 << 10
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Header is what a backup says of itself first.
type Header struct {
	ID   [16]byte // of the store
	At   int64    // time of the snapshot, Unix nanoseconds
	Keys int64    // records at most: some may have expired
}

func (h *Header) encode() []byte {
	b := make([]byte, HeaderBytes)
	le := binary.LittleEndian
	le.PutUint64(b[0:], magic)
	le.PutUint32(b[8:], version)
	copy(b[16:32], h.ID[:])
	le.PutUint64(b[32:], uint64(h.At))
	le.PutUint64(b[40:], uint64(h.Keys))
	sumHeader(b)
	return b
}

// sumHeader fills in the checksum of a header.
func sumHeader(b []byte) {
	binary.LittleEndian.PutUint32(b[headerSum:], crc32.Checksum(b[:headerSum], castagnoli))
}

// chunkSum goes on from the checksum of the stream before a chunk.
func chunkSum(before uint32, chunk []byte) uint32 {
	return crc32.Update(crc32.Update(before, castagnoli, chunk[:4]), castagnoli, chunk[chunkHeader:])
}
