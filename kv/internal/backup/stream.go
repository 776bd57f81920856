package backup

import (
	"encoding/binary"
	"hash/crc32"
)

// Sizes and offsets, in bytes. Format: docs/backup.md.
const (
	magic   = 0x5055_4b42_766b_766e // "nvkvBKUP"
	version = 1

	HeaderBytes  = 64
	headerSum    = 60
	chunkHeader  = 8
	trailerBytes = 16
	recordHeader = 7
	flagExpiry   = 1 << 0

	// ChunkBytes is the largest payload. A reader must hold that much before it can verify any of
	// it.
	ChunkBytes = 256 << 10
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Header is the header of a backup.
type Header struct {
	ID   [16]byte // of the store
	At   int64    // time of the snapshot, Unix nanoseconds
	Keys int64    // an upper bound of the records: some may have expired
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

// sumHeader writes the checksum of a header.
func sumHeader(b []byte) {
	binary.LittleEndian.PutUint32(b[headerSum:], crc32.Checksum(b[:headerSum], castagnoli))
}

// chunkSum continues the checksum of the stream over a chunk.
func chunkSum(before uint32, chunk []byte) uint32 {
	return crc32.Update(crc32.Update(before, castagnoli, chunk[:4]), castagnoli, chunk[chunkHeader:])
}
