package alloc

import (
	"bytes"
	"fmt"

	"nvkv/nvmap"
)

// foreign lists kinds of files that are often near stores, by a magic string at an offset.
var foreign = []struct {
	at    int
	magic string
	name  string
}{
	{0, "\x00\x89nvkv", "a store"},
	{0, "nvkvBKUP", "a backup of a store: nvkv restore makes a store of it"},
	{16, "\xed\xda\x0c\xed", "a bbolt file: nvkv convert --from bbolt:PATH reads it"},
	{4096 + 16, "\xed\xda\x0c\xed", "a bbolt file: nvkv convert --from bbolt:PATH reads it"},
	{0, "SQLite format 3\x00", "a SQLite database"},
	{16, "\xde\xc0\xef\xbe", "an LMDB file"},
	{0, "\x1f\x8b", "compressed by gzip"},
	{0, "\x28\xb5\x2f\xfd", "compressed by zstd"},
	{0, "\xfd7zXZ\x00", "compressed by xz"},
	{0, "PK\x03\x04", "a zip archive"},
	{0, "\x7fELF", "a program"},
}

// Describe returns a text on a device that is no store, from its first bytes: the kind of file that
// they indicate, or the bytes themselves.
func Describe(head []byte) string {
	for _, f := range foreign {
		if len(head) >= f.at && bytes.HasPrefix(head[f.at:], []byte(f.magic)) {
			return "it is " + f.name
		}
	}
	return fmt.Sprintf("it begins with %q", head[:min(len(head), 8)])
}

// notStore returns the error for a device that does not begin as a store does.
func notStore(m *nvmap.Map) error {
	b := make([]byte, min(m.Size(), 2*nvmap.PageBytes))
	if err := m.Device().Read(0, b); err != nil {
		return err
	}
	return fmt.Errorf("%w: %s", ErrNotStore, Describe(b))
}
