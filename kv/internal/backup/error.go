package backup

import (
	"errors"
	"fmt"
)

// Error says where a backup stream is not what it must be. It unwraps to
// ErrCorrupt, or to ErrVersion where the stream is of a later version, or to
// ErrNotBackup where it is none.
type Error struct {
	Off  int64 // bytes from the beginning of the stream
	What string
	Err  error
}

func (e *Error) Error() string {
	return fmt.Sprintf("nvkv: backup: at byte %d: %s", e.Off, e.What)
}

func (e *Error) Unwrap() error { return e.Err }

// ErrNotBackup says that a stream does not begin as a backup does.
var ErrNotBackup = errors.New("nvkv: not a backup")
