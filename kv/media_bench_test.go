package kv

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"testing"

	"nvkv/kv/internal/record"
)

// BenchmarkMediaBytes reports how many bytes go to the medium for each byte of updated keys and
// values, in all and for index pages and metadata, by the distribution of the keys and by
// CheckpointBytes. These are counts, not times. Each run updates until three checkpoints are due
// and takes a last one.
//
//	NVKV_BENCH_RECORDS=1000000 go test ./kv -run '^$' -bench MediaBytes -benchtime 1x
func BenchmarkMediaBytes(b *testing.B) {
	const intervals = 3
	keys := benchKeys(benchRecords())
	for _, skew := range []string{"uniform", "zipfian"} {
		for _, mib := range []int64{16, 64, 256} {
			b.Run(fmt.Sprintf("%s/%dMiB", skew, mib), func(b *testing.B) {
				for b.Loop() {
					b.StopTimer()
					db, err := Open(filepath.Join(benchDir(b), "s"), &Options{CheckpointBytes: mib << 20})
					if err != nil {
						b.Fatal(err)
					}
					for _, k := range keys {
						if err := db.Put(k, make([]byte, benchValueBytes)); err != nil {
							b.Fatal(err)
						}
					}
					if err := db.Checkpoint(b.Context()); err != nil {
						b.Fatal(err)
					}
					before, next, value := db.Metrics(), skewed(skew, len(keys)), make([]byte, benchValueBytes)
					record := int64(len(keys[0])+benchValueBytes) + record.HeaderBytes
					b.StartTimer()
					for range intervals * mib << 20 / record {
						if err := db.Put(keys[next()], value); err != nil {
							b.Fatal(err)
						}
					}
					if err := db.Checkpoint(b.Context()); err != nil {
						b.Fatal(err)
					}
					b.StopTimer()
					after := db.Metrics()
					user := float64(after.UserBytes - before.UserBytes)
					b.ReportMetric(float64(after.MediaBytes-before.MediaBytes)/user, "media/user")
					b.ReportMetric(float64(after.IndexBytes-before.IndexBytes)/user, "index/user")
					b.ReportMetric(float64(after.MetadataBytes-before.MetadataBytes)/user, "meta/user")
					b.ReportMetric(float64(after.Checkpoints-before.Checkpoints), "checkpoints")
					if err := db.Close(); err != nil {
						b.Fatal(err)
					}
					b.StartTimer()
				}
			})
		}
	}
}

// skewed returns the next of n keys. Zipfian: a few keys get most of the updates; the keys are in
// hash order, so they are scattered over the index.
func skewed(name string, n int) func() int {
	rng := rand.New(rand.NewPCG(3, 4))
	if name == "uniform" {
		return func() int { return rng.IntN(n) }
	}
	z := rand.NewZipf(rng, 1.01, 1, uint64(n-1))
	return func() int { return int(z.Uint64()) }
}
