package kv

import (
	"errors"
	"fmt"

	"nvkv/alloc"
	"nvkv/nvmap"
)

// Errors, for errors.Is. Those that name a place on the medium come as a
// *CorruptError or *nvmap.FaultError.
var (
	ErrNotFound      = errors.New("nvkv: key not found")
	ErrClosed        = nvmap.ErrClosed
	ErrReadOnly      = nvmap.ErrReadOnly
	ErrTxClosed      = errors.New("nvkv: transaction has ended")
	ErrNested        = errors.New("nvkv: write past the writable transaction that this goroutine has open, which would wait for itself")
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

// CorruptError says what on the medium is not what it must be, and where. It
// unwraps to ErrCorrupt.
type CorruptError struct {
	Off       uint64 // byte offset on the device
	Structure string // "record", "index page", "value block", ...
	Key       []byte // the key that was looked for, where there is one
}

func (e *CorruptError) Error() string {
	if e.Key == nil {
		return fmt.Sprintf("nvkv: corrupt %s at %#x", e.Structure, e.Off)
	}
	return fmt.Sprintf("nvkv: corrupt %s at %#x, key %q", e.Structure, e.Off, clip(e.Key))
}

// Unwrap makes errors.Is(err, ErrCorrupt) true.
func (e *CorruptError) Unwrap() error { return ErrCorrupt }

// clip keeps keys in messages short.
func clip(key []byte) []byte {
	if len(key) > 64 {
		return key[:64]
	}
	return key
}
