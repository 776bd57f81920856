package kv

import (
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"sort"
	"strconv"
	"testing"

	"nvkv/internal/effort"
	"nvkv/nvmap"
)

// amplificationRecords names the number of records in TestWriteAmplification. The more there are,
// the more of the index changes between two checkpoints.
const amplificationRecords = "NVKV_AMPLIFICATION_RECORDS"

// updateShape is a workload whose writes are counted.
type updateShape struct {
	records, valueBytes int
	updateBytes         int     // approximate bytes of records that are updated after the load
	most                float64 // most bytes given to the medium per user byte
	mostBlocks          float64 // most bytes of blocks written by the medium, per user byte
}

// TestWriteAmplification counts the writes that zipfian updates, as in YCSB, cost a medium with the
// timing and the write buffer of Optane memory. It counts every byte that the store gives to the
// device, up to and including Close: records, checkpoints, descriptors and maps, records moved out
// of sparse slabs, growth and superblocks. User bytes are those of keys and values, with keys of 23
// bytes, counted once for each update. It also counts the blocks of 256 bytes in which such a
// medium writes. A record that fills a hole of its size between others costs one or two blocks.
func TestWriteAmplification(t *testing.T) {
	t.Parallel()
	if raceBuild || testing.Short() {
		t.Skip("hundreds of MiB of simulated medium on the heap")
	}
	shapes := []updateShape{
		{records: 100_000, valueBytes: 100, updateBytes: 144 << 20, most: 1.5, mostBlocks: 2.6},
		{records: 50_000, valueBytes: 1000, updateBytes: 160 << 20, most: 1.5, mostBlocks: 1.75},
	}
	if effort.Now() < effort.Full {
		shapes = shapes[1:]
	}
	if n, err := strconv.Atoi(os.Getenv(amplificationRecords)); err == nil && n > 0 {
		for i := range shapes {
			shapes[i].records = n
		}
	}
	for _, shape := range shapes {
		t.Run(fmt.Sprintf("%d bytes", shape.valueBytes), func(t *testing.T) { countUpdates(t, shape) })
	}
}

func countUpdates(t *testing.T, shape updateShape) {
	dev := nvmap.NewSim(nvmap.NewMem(int64(shape.records*(shape.valueBytes+100))*2 + 512<<20))
	dev.SetTiming(nvmap.OptaneTiming())
	dev.SetWearBuffer(nvmap.OptaneBuffer)
	var given int64 // to the device
	dev.OnWrite(func(_ nvmap.Off, n int) { given += int64(n) })
	db, err := OpenDevice(dev, nil)
	if err != nil {
		t.Fatal(err)
	}
	keys, value := benchKeys(shape.records), make([]byte, shape.valueBytes)
	rng := rand.New(rand.NewPCG(1, 3))
	put := func(i int) {
		t.Helper()
		value[0]++
		if err := db.Put(keys[i], value); err != nil {
			t.Fatal(err)
		}
	}
	for _, i := range rng.Perm(shape.records) {
		put(i)
	}
	if err := db.Checkpoint(t.Context()); err != nil {
		t.Fatal(err)
	}

	before := db.Metrics()
	given = 0
	dev.ResetWear()
	next := zipfianOrder(shape.records, rng)
	updates := shape.updateBytes / (shape.valueBytes + len(keys[0]))
	for range updates {
		put(next())
	}
	if err := db.Checkpoint(t.Context()); err != nil {
		t.Fatal(err)
	}
	after := db.Metrics()
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}

	user := float64(updates * (len(keys[0]) + shape.valueBytes))
	wear := dev.Wear()
	per := func(bytes int64) float64 { return float64(bytes) / user }
	bytes, lines, blocks := per(given), per(wear.Lines*64), per(wear.Writes*256)
	t.Logf("%d records, %d updates, %d checkpoints: per user byte %.3f bytes given to the medium (records %.3f, index %.3f, metadata %.3f), %.3f in lines of 64, %.3f in blocks of 256; "+
		"the block written most, %d times, the mean %.1f; %d records moved; the store has %.2f bytes for a live one",
		shape.records, updates, after.Checkpoints-before.Checkpoints, bytes,
		per(int64(after.RecordBytes-before.RecordBytes)), per(int64(after.IndexBytes-before.IndexBytes)), per(int64(after.MetadataBytes-before.MetadataBytes)),
		lines, blocks, wear.Max, wear.Mean, after.EvacuatedRecords-before.EvacuatedRecords, float64(after.DeviceBytes)/float64(after.LiveBytes))
	if after.Checkpoints-before.Checkpoints < 3 {
		t.Errorf("%d checkpoints: too few to say what they cost", after.Checkpoints-before.Checkpoints)
	}
	if bytes > shape.most {
		t.Errorf("%.3f bytes given to the medium per user byte, want %.2f at most", bytes, shape.most)
	}
	if blocks > shape.mostBlocks {
		t.Errorf("%.3f bytes of blocks written per user byte, want %.2f at most", blocks, shape.mostBlocks)
	}
}

// zipfianOrder returns numbers below n with exponent 0.99. Keys are in hash order, so the frequent
// ones are scattered.
func zipfianOrder(n int, rng *rand.Rand) func() int {
	sums, sum := make([]float64, n), 0.0
	for i := range sums {
		sum += 1 / math.Pow(float64(i+1), 0.99)
		sums[i] = sum
	}
	return func() int { return min(n-1, sort.SearchFloat64s(sums, rng.Float64()*sum)) }
}
