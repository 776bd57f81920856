package kv

import (
	"errors"

	"nvkv/alloc"
	"nvkv/kv/internal/backup"
	"nvkv/nvmap"
)

// Errors, for errors.Is. Errors that name a place on the medium are a *CorruptError or a
// *nvmap.FaultError.
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

// CorruptError says which structure on the medium is damaged, and where: see
// [alloc.CorruptError]. Every error that unwraps to ErrCorrupt and names a place on a device is
// one; those of a backup stream are a [BackupError].
type CorruptError = alloc.CorruptError

// BackupError reports what is wrong in a backup stream: What, at byte Off of the stream. It unwraps
// to ErrCorrupt, to ErrVersion if the stream has a later version, or to ErrNotBackup if it is no
// backup.
type BackupError = backup.Error

// ErrNotBackup says that a stream does not begin with the header of a backup.
var ErrNotBackup = backup.ErrNotBackup

// clip shortens a key for a message.
func clip(key []byte) []byte {
	if len(key) > 64 {
		return key[:64]
	}
	return key
}
