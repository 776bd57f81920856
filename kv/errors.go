package kv

import (
	"errors"

	"nvkv/alloc"
	"nvkv/kv/internal/backup"
	"nvkv/kv/internal/record"
	"nvkv/nvmap"
)

// Errors, for errors.Is. Those that name a place on the medium come as a
// *CorruptError or *nvmap.FaultError.
var (
	ErrNotFound      = errors.New("nvkv: key not found")
	ErrClosed        = nvmap.ErrClosed
	ErrReadOnly      = nvmap.ErrReadOnly
	ErrTxClosed      = errors.New("nvkv: transaction has ended")
	ErrNested        = errors.New("nvkv: the call would wait for the one that it is made in")
	ErrSliceWritten  = errors.New("nvkv: a slice of a transaction was written to: it lies in the store and is read-only")
	ErrKeyTooLarge   = errors.New("nvkv: key too large")
	ErrValueTooLarge = errors.New("nvkv: value too large")
	ErrFull          = nvmap.ErrFull
	ErrLocked        = nvmap.ErrLocked
	ErrFailed        = errors.New("nvkv: store failed, writes are refused until it is reopened")
	ErrCorrupt       = alloc.ErrCorrupt
	ErrMediaFault    = nvmap.ErrMediaFault
	ErrVersion       = alloc.ErrVersion
	ErrNotStore      = alloc.ErrNotStore
)

// CorruptError says what on the medium is not what it must be, its Structure ("record",
// "index page", "value block", ...), and where: Off is the byte on the device, Key the key
// that was looked for, where there is one. It unwraps to ErrCorrupt.
type CorruptError = record.CorruptError

// BackupError says where a backup stream is not what it must be: Off bytes from its
// beginning it is What. It unwraps to ErrCorrupt, or to ErrVersion where the stream is of
// a later version, or to ErrNotBackup where it is none.
type BackupError = backup.Error

// ErrNotBackup says that a stream does not begin as a backup does.
var ErrNotBackup = backup.ErrNotBackup

// clip keeps keys in messages short.
func clip(key []byte) []byte {
	if len(key) > 64 {
		return key[:64]
	}
	return key
}
