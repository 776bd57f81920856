package record

import (
	"fmt"

	"nvkv/alloc"
)

// CorruptError reports damage on the medium: the structure and its offset. It unwraps to
// alloc.ErrCorrupt.
type CorruptError struct {
	Off       uint64 // byte offset on the device
	Structure string // "record", "index page", "value block", ...
	Key       []byte // the key that the call looked for; nil if there is none
}

func (e *CorruptError) Error() string {
	if e.Key == nil {
		return fmt.Sprintf("nvkv: corrupt %s at %#x", e.Structure, e.Off)
	}
	return fmt.Sprintf("nvkv: corrupt %s at %#x, key %q", e.Structure, e.Off, e.Key[:min(len(e.Key), 64)])
}

// Unwrap makes errors.Is(err, alloc.ErrCorrupt) true.
func (e *CorruptError) Unwrap() error { return alloc.ErrCorrupt }
