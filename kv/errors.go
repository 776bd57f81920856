package kv

import (
	"errors"

	"nvkv/alloc"
	"nvkv/kv/internal/backup"
	"nvkv/nvmap"
)

// Errors, for errors.Is. An error that names a place on the medium is a *CorruptError or a
// *nvmap.FaultError.
//
//   - ErrNotFound: the key is absent or has expired.
//   - ErrClosed: the DB was closed, or is being closed.
//   - ErrReadOnly: a write to a store that was opened read-only, or in a read-only Tx.
//   - ErrTxClosed: a call of a Tx, a Cursor or an iterator after its end.
//   - ErrNested: the call would wait for the call in whose callback it is made, see [DB.Update] and
//     [DB.Close].
//   - ErrSliceWritten: a callback wrote to a slice of its transaction.
//   - ErrKeyTooLarge, ErrValueTooLarge: see MaxKeyBytes and MaxValueBytes.
//   - ErrFull: there is no room. Nothing was written, and deletes are still taken.
//   - ErrLocked: another process, or another DB of this one, has the store open.
//   - ErrFailed: a write or a fence failed. The store takes no more writes until it is opened
//     again; the change of the call that failed may be there then.
//   - ErrCorrupt: bytes on the medium are damaged.
//   - ErrMediaFault: the medium could not be read.
//   - ErrVersion: the store or the backup has another format version.
//   - ErrNotStore: the file or device does not hold a store.
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

// CorruptError says which Structure on the medium is damaged ("record", "index page", "value
// block", ...), at which byte Off of the device, and which Key the call looked for, nil if none.
// Every error that unwraps to ErrCorrupt and names a place on a device is one; those of a backup
// stream are a [BackupError].
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
