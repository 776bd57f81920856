package backup

import (
	"bytes"
	"encoding/hex"
	"strings"
	"testing"
)

// TestStreamFormat: the bytes of a stream are those of docs/backup.md.
func TestStreamFormat(t *testing.T) {
	var b bytes.Buffer
	s := NewWriter(&b, &Header{ID: [16]byte{1, 2, 3, 15: 16}, At: 0x1122334455667788, Keys: 2})
	if s.Put([]byte("a"), []byte("one"), 0) != nil || s.Put([]byte("bb"), nil, 0x0102030405060708) != nil || s.Finish() != nil {
		t.Fatal("a writer to memory fails")
	}
	want := strings.Join([]string{
		"6e766b76424b5550 01000000 00000000", // magic, version, zero
		"01020300000000000000000000000010",   // store id
		"8877665544332211 0200000000000000",  // time, keys
		"000000000000000000000000 ee8b0629",  // zero, checksum
		"1c000000 4f0e0b98",                  // payload of 28 bytes, checksum
		"00 0100 03000000 61 6f6e65",         // a = one
		"01 0200 00000000 0807060504030201 6262",
		"00000000 aec1a924 0200000000000000 1c00000000000000", // trailer
	}, "")
	if got := hex.EncodeToString(b.Bytes()); got != strings.ReplaceAll(want, " ", "") {
		t.Errorf("stream %s\nwant   %s", got, strings.ReplaceAll(want, " ", ""))
	}
}
