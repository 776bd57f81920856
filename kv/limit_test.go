package kv

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"nvkv/alloc"
)

// TestMaxBytesIsKept: a store grows up to MaxBytes, less a slab at most. A bound below the smallest
// store is an error that names the least.
func TestMaxBytesIsKept(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"mem", "file"} {
		for _, most := range []int64{700_000, 3<<20 + 5000, 5 << 20} {
			path := ""
			if kind != "mem" {
				path = filepath.Join(t.TempDir(), "s")
			}
			db, err := Open(path, &Options{Device: kind, MaxBytes: most, EvacuateBytes: -1})
			must(t, err)
			for i := 0; err == nil; i++ {
				err = db.Put(fmt.Append(nil, i), make([]byte, 15_000))
			}
			if !errors.Is(err, ErrFull) || !strings.Contains(err.Error(), "bytes that MaxBytes allows") {
				t.Fatal(err)
			}
			size := db.m.Size()
			if slab := int64(db.r.SlabBytes()); size > most || size <= most-2*slab {
				t.Errorf("%s: %d bytes, %d were allowed", kind, size, most)
			}
			mustCheck(t, db)
			must(t, db.Close())
		}
	}
	least, err := alloc.LeastBytes(0)
	must(t, err)
	if _, err := Open("", &Options{Device: "mem", MaxBytes: 1000}); err == nil || !strings.Contains(err.Error(), fmt.Sprint(least)) {
		t.Errorf("MaxBytes of 1000: %v", err)
	}
	db, err := Open("", &Options{Device: "mem", MaxBytes: least})
	must(t, err)
	must(t, db.Close())
}
