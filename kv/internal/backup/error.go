package backup

import (
	"errors"
	"fmt"
)

// Error reports what is wrong in a backup stream and where. It unwraps to ErrCorrupt, to ErrVersion
// if the stream has a later version, or to ErrNotBackup if it is no backup.
type Error struct {
	Off  int64 // bytes from the beginning of the stream
	What string
	Err  error
}

func (e *Error) Error() string {
	return fmt.Sprintf("nvkv: backup: at byte %d: %s", e.Off, e.What)
}

func (e *Error) Unwrap() error { return e.Err }

// ErrNotBackup says that a stream does not begin with the header of a backup.
var ErrNotBackup = errors.New("nvkv: not a backup")
