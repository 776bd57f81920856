package kv

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"testing"
	"time"
)

// TestLatencyBuckets checks that each latency is in a bucket that ends above it, by an eighth at
// most, that the buckets have no gaps, and that powers of two end buckets.
func TestLatencyBuckets(t *testing.T) {
	for _, ns := range []uint64{0, 1, 7, 8, 9, 15, 16, 17, 100, 255, 256, 1 << 20, 1<<30 + 12345} {
		i := bucketOf(ns)
		if end := bucketEnd(i); end <= ns || float64(end) > float64(ns)*1.125+1 {
			t.Errorf("%d ns is in bucket %d, which ends at %d", ns, i, end)
		}
	}
	for i := 1; i < octaves*subBuckets-1; i++ {
		if end := bucketEnd(i - 1); bucketOf(end) != i || bucketOf(end-1) != i-1 {
			t.Fatalf("bucket %d ends at %d, which is in bucket %d", i-1, end, bucketOf(end))
		}
	}
	for bit := 3; bit < octaves; bit++ {
		if at := uint64(1) << bit; bucketOf(at) != bucketOf(at-1)+1 {
			t.Errorf("%d does not begin a bucket", at)
		}
	}
	if i := bucketOf(math.MaxUint64); i != octaves*subBuckets-1 {
		t.Errorf("the longest latency is in bucket %d", i)
	}
}

func TestLatencyQuantiles(t *testing.T) {
	var r timer
	for i := range 1000 {
		r.record(time.Duration(i+1) * time.Microsecond)
	}
	h := r.histogram()
	if h.Count != 1000 || h.Max != time.Millisecond || h.Sum != 500500*time.Microsecond {
		t.Errorf("%d calls, the longest %v, together %v", h.Count, h.Max, h.Sum)
	}
	for q, want := range map[float64]time.Duration{0: time.Microsecond, 0.5: 500 * time.Microsecond, 0.99: 990 * time.Microsecond, 1: time.Millisecond} {
		if got := h.Quantile(q); got < want || float64(got) > 1.125*float64(want)+1 {
			t.Errorf("quantile %v is %v, want %v and an eighth at most", q, got, want)
		}
	}
	if got := (LatencyHistogram{}).Quantile(0.5); got != 0 {
		t.Errorf("nothing took %v", got)
	}
}

// TestLatencies checks that each call is counted once, in its kind, and that a store without the
// option counts none.
func TestLatencies(t *testing.T) {
	if db := openTest(t, "", &Options{Device: "mem"}); db.Put([]byte("k"), nil) != nil || db.timing != nil || db.Latencies().Put.Count != 0 {
		t.Errorf("without the option: %+v", db.Latencies())
	}
	db := openTest(t, "", &Options{Device: "mem", TimeOneIn: 1})
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			key := []byte("k")
			for range 10 {
				errs := errors.Join(db.Put(key, key), db.PutTTL(key, key, time.Hour))
				_, err := db.Get(key)
				_, err2 := db.Has(key)
				b := db.NewBatch()
				b.Put(key, key)
				b.Put([]byte("l"), key)
				errs = errors.Join(errs, err, err2, db.Write(b), db.Update(func(tx *Tx) error { return tx.Put(key, nil) }))
				if errs != nil {
					t.Error(errs)
				}
			}
		})
	}
	all.Wait()
	must(t, db.Delete([]byte("k")))
	if _, err := db.Get([]byte("k")); !errors.Is(err, ErrNotFound) {
		t.Error(err)
	}
	l := db.Latencies()
	got := [...]uint64{l.Get.Count, l.Put.Count, l.Delete.Count, l.Write.Count, l.Commit.Count}
	if want := [...]uint64{81, 80, 1, 40, 40}; got != want {
		t.Errorf("timed %v, want %v", got, want)
	}
	if l.OneIn != 1 || l.Get.Max <= 0 || l.Get.Sum < l.Get.Max {
		t.Errorf("%+v", l.Get)
	}
	text, err := json.Marshal(l)
	var back Latencies
	if err == nil {
		err = json.Unmarshal(text, &back)
	}
	if err != nil || back.Put.Count != 80 || len(back.Put.Buckets) != len(l.Put.Buckets) {
		t.Errorf("%v, %s", err, text)
	}
}

// TestLatencySample checks that about one call in n is timed: of 6,400 one in 16, within twelve
// standard deviations.
func TestLatencySample(t *testing.T) {
	db := openTest(t, "", &Options{Device: "mem", TimeOneIn: 16})
	for range 6400 {
		if _, err := db.Has([]byte("k")); err != nil {
			t.Fatal(err)
		}
	}
	if n := db.Latencies().Get.Count; n < 170 || n > 630 {
		t.Errorf("%d of 6400 calls were timed, want about 400", n)
	}
	if _, err := Open("", &Options{Device: "mem", TimeOneIn: -1}); err == nil {
		t.Error("a negative TimeOneIn was accepted")
	}
}

// BenchmarkTimeOneIn compares the cost of Get and Put with and without TimeOneIn, in blocks of calls
// that take turns on one store. For each setting it reports the median of its blocks and their fastest
// twentieth, which other processes disturb least, in nanoseconds a call. 0 is there twice: the
// difference of the two is that of equal things.
func BenchmarkTimeOneIn(b *testing.B) {
	const block = 1000
	keys := benchKeys(100_000)
	db := loadBench(b, keys)
	next := benchOrder(keys, benchOps)
	value := make([]byte, benchValueBytes)
	var dst []byte
	calls := map[string]func(){
		"get": func() { dst, _ = db.GetAppend(dst[:0], next()) },
		"put": func() {
			if err := db.Put(next(), value); err != nil {
				b.Fatal(err)
			}
		},
	}
	settings := []int{0, 0, 64, 16, 1}
	for name, call := range calls {
		b.Run(name, func(b *testing.B) {
			took := make([][]float64, len(settings))
			for b.Loop() {
				for i, n := range settings {
					db.timing = newTiming(n)
					began := time.Now()
					for range block {
						call()
					}
					took[i] = append(took[i], float64(time.Since(began).Nanoseconds())/block)
				}
			}
			db.timing = nil
			for i, n := range settings {
				blocks := slices.Sorted(slices.Values(took[i]))
				b.ReportMetric(blocks[len(blocks)/20], fmt.Sprintf("ns-fast-%d:1in%d", i, n))
				b.ReportMetric(blocks[len(blocks)/2], fmt.Sprintf("ns-mid-%d:1in%d", i, n))
			}
		})
	}
}
