package record

import (
	"bytes"
	"testing"

	"nvkv/nvmap"
)

// TestPlaces: another place has another tag and another checksum.
func TestPlaces(t *testing.T) {
	b := bytes.Repeat([]byte("page"), nvmap.PageBytes/4)
	tags, sums := map[uint32]bool{}, map[uint32]bool{}
	n := 0
	for seed := range uint64(4) {
		for o := nvmap.Off(0); o < 100*nvmap.PageBytes; o += nvmap.PageBytes {
			sums[PlaceSum(b, seed, o)] = true
			for carve := range uint32(10) {
				tags[PlaceTag(seed, carve, o)] = true
				n++
			}
		}
	}
	if len(tags) < n-2 || len(sums) != 400 {
		t.Errorf("%d places have %d tags, 400 have %d checksums", n, len(tags), len(sums))
	}
	sum := PlaceSum(b, 1, 0)
	b[0] ^= 1
	if PlaceSum(b, 1, 0) != sum {
		t.Error("the four bytes that the checksum takes are summed")
	}
	b[4] ^= 1
	if PlaceSum(b, 1, 0) == sum {
		t.Error("a byte behind them is not")
	}
}
