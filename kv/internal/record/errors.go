package record

import (
	"fmt"

	"nvkv/alloc"
)

// CorruptError says what on the medium is not what it must be, and where. It
// unwraps to alloc.ErrCorrupt.
type CorruptError struct {
	Off       uint64 // byte offset on the device
	Structure string // "record", "index page", "value block", ...
	Key       []byte // the key that was looked for, where there is one
}

func (e *CorruptError) Error() string {
	if e.Key == nil {
		return fmt.Sprintf("nvkv: corrupt %s at %#x", e.Structure, e.Off)
	}
	return fmt.Sprintf("nvkv: corrupt %s at %#x, key %q", e.Structure, e.Off, e.Key[:min(len(e.Key), 64)])
}

// Unwrap makes errors.Is(err, alloc.ErrCorrupt) true.
func (e *CorruptError) Unwrap() error { return alloc.ErrCorrupt }
