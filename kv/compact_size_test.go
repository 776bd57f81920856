//go:build unix

package kv

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"nvkv/internal/effort"
)

// TestCompactMakesNothingLarger: after Compact, and after Close, a store takes no more blocks of
// the file system than before, except for an eighth and a group.
func TestCompactMakesNothingLarger(t *testing.T) {
	skipInRace(t)
	total := effort.Pick(6<<20, 6<<20, 40<<20, 200<<20)
	for _, kind := range []string{"file", "shm", "relaxed"} { // the last one is on shm too
		for _, size := range []int{0, 50, 300, 1000, 4000, 20_000, 70_000, 300_000} {
			for _, shape := range []string{"in order", "at random", "mixed", "half deleted", "overwritten"} {
				if effort.Now() < effort.Full && (kind == "file" || size != 1000 && size != 70_000) {
					continue
				}
				t.Run(fmt.Sprintf("%s %d %s", kind, size, shape), func(t *testing.T) {
					dir := t.TempDir()
					durability := Sync
					if kind == "relaxed" {
						durability = Relaxed
					}
					if kind != "file" {
						dir = testDir(t)
					}
					path := filepath.Join(dir, "s")
					db := openTest(t, path, &Options{EvacuateBytes: -1, Durability: durability})
					rng := rand.New(rand.NewPCG(uint64(size), 9))
					n := min(total/(size+64), 30_000)
					keys := rng.Perm(n)
					b := db.NewBatch()
					put := func(i, size int) {
						b.Put(fmt.Appendf(nil, "%08d", i), make([]byte, size))
						if b.Len() >= 500 || b.Size() > 1<<20 {
							must(t, db.Write(b))
							b.Reset()
						}
					}
					for i := range n {
						s := size
						if shape == "mixed" {
							s = rng.IntN(2*size + 1)
						}
						if shape == "in order" {
							put(i, s)
						} else {
							put(keys[i], s)
						}
					}
					for i := range n {
						if shape == "overwritten" && i%3 == 0 {
							put(keys[i], size)
						}
						if shape == "half deleted" && i%2 == 0 {
							b.Delete(fmt.Appendf(nil, "%08d", keys[i]))
						}
					}
					must(t, db.Write(b))
					must(t, db.Checkpoint(t.Context()))
					look := func() (blocks, length int64) {
						fi, err := os.Stat(path)
						must(t, err)
						return allocated(t, path), fi.Size()
					}
					b0, l0 := look()
					must(t, db.Compact(t.Context()))
					b1, l1 := look()
					must(t, db.Close())
					b2, l2 := look()
					// A group and an eighth: the kept room grows with the used bytes, and slabs
					// that were filled while records were put into order are no longer dense.
					bound := b0/8 + 4<<20
					t.Logf("blocks %d KiB, %d after, %d closed; length %d KiB, %d, %d", b0>>10, b1>>10, b2>>10, l0>>10, l1>>10, l2>>10)
					if b1 > b0+bound || b2 > b0+bound || l2 > l0+bound {
						t.Errorf("blocks %d KiB, %d after, %d closed; length %d KiB, %d, %d", b0>>10, b1>>10, b2>>10, l0>>10, l1>>10, l2>>10)
					}
				})
			}
		}
	}
}

// TestGroupCountsRuns: bytes in runs count towards the size that closes a group of relaxed mode.
func TestGroupCountsRuns(t *testing.T) {
	db := openTest(t, "", &Options{Device: "mem", Durability: Relaxed, noGroupTimer: true, CheckpointBytes: 1 << 40, EvacuateBytes: -1})
	fences := db.Metrics().Fences
	const n, size = 24, 1 << 20
	for i := range n {
		must(t, db.Put(fmt.Append(nil, i%2), make([]byte, size)))
		if open := db.group.bytes; open >= db.opt.groupBytes {
			t.Fatalf("%d bytes in an open group, which %d end", open, db.opt.groupBytes)
		}
	}
	if got := db.Metrics().Fences - fences; got < n*size/uint64(db.opt.groupBytes)-1 {
		t.Errorf("%d fences for %d bytes in groups of %d", got, n*size, db.opt.groupBytes)
	}
	if used := db.Metrics().UsedBytes; used > 12<<20 {
		t.Errorf("%d bytes are in use for two values of %d", used, size)
	}
}
