package alloc

import "fmt"

// CorruptError says which structure on the medium is damaged, and where. It unwraps to ErrCorrupt.
type CorruptError struct {
	Off       uint64 // byte offset on the device
	Structure string // "superblock", "record", "index page", "value block", ...
	Key       []byte // the key that was looked for; nil if there is none
}

// keyMost is the number of bytes of a key that a message shows.
const keyMost = 64

func (e *CorruptError) Error() string {
	if e.Key == nil {
		return fmt.Sprintf("nvkv: corrupt %s at %#x", e.Structure, e.Off)
	}
	return fmt.Sprintf("nvkv: corrupt %s at %#x, key %q", e.Structure, e.Off, e.Key[:min(len(e.Key), keyMost)])
}

// Unwrap makes errors.Is(err, ErrCorrupt) true.
func (e *CorruptError) Unwrap() error { return ErrCorrupt }

// corruptAt returns the error for a damaged structure at o.
func corruptAt(o Off, structure string) *CorruptError {
	return &CorruptError{Off: uint64(o), Structure: structure}
}
