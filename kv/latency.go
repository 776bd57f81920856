package kv

import (
	"math/bits"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"nvkv/kv/internal/record"
)

// Latencies are the latencies of calls since the store was opened: see Options.TimeOneIn.
type Latencies struct {
	OneIn  int              `json:"one_in"` // calls for each timed one; 0: nothing is timed
	Get    LatencyHistogram `json:"get"`    // Get, GetAppend, Has of a DB
	Put    LatencyHistogram `json:"put"`    // Put and its like, and batches of one put
	Delete LatencyHistogram `json:"delete"`
	Write  LatencyHistogram `json:"write"`  // other batches
	Commit LatencyHistogram `json:"commit"` // the end of a writable Tx, without what came before
}

// LatencyHistogram counts timed calls by how long they took, failed ones too.
type LatencyHistogram struct {
	Count   uint64          `json:"count"`
	Sum     time.Duration   `json:"sum_ns"`
	Max     time.Duration   `json:"max_ns"`
	Buckets []LatencyBucket `json:"buckets,omitempty"` // that are not empty, ascending
}

// LatencyBucket counts calls that took less than Below, and no less than the end of the bucket
// before it. A bucket is an eighth of an octave wide, so a latency is known within 12.5 %. Every
// power of two nanoseconds is the end of a bucket.
type LatencyBucket struct {
	Below time.Duration `json:"below_ns"`
	Count uint64        `json:"count"`
}

// Quantile returns a latency that the share q of the calls, from 0 to 1, did not exceed. It is 0 if
// no call was timed.
func (h LatencyHistogram) Quantile(q float64) time.Duration {
	want := uint64(q * float64(h.Count))
	var seen uint64
	for _, b := range h.Buckets {
		if seen += b.Count; seen >= want && seen > 0 {
			return min(b.Below, h.Max)
		}
	}
	return h.Max
}

// Latencies returns the latencies of the calls that were timed so far. It takes no lock, and may be
// called at any time, also after Close.
func (db *DB) Latencies() Latencies {
	t := db.timing
	if t == nil {
		return Latencies{}
	}
	return Latencies{
		OneIn: int(t.oneIn), Get: t.kinds[timedGet].histogram(), Put: t.kinds[timedPut].histogram(), Delete: t.kinds[timedDelete].histogram(),
		Write: t.kinds[timedWrite].histogram(), Commit: t.kinds[timedCommit].histogram(),
	}
}

// timedKind is a kind of call.
type timedKind int

const (
	timedGet timedKind = iota
	timedPut
	timedDelete
	timedWrite
	timedCommit
	timedKinds
)

// timing records the latencies of a store. A nil timing records nothing.
type timing struct {
	oneIn uint32
	kinds [timedKinds]timer
}

func newTiming(oneIn int) *timing {
	if oneIn == 0 {
		return nil
	}
	return &timing{oneIn: uint32(oneIn)}
}

// draws says whether the call at hand is timed. A random choice keeps calls that come in a rhythm
// from being timed always or never.
func (t *timing) draws() bool { return t.oneIn == 1 || rand.Uint32N(t.oneIn) == 0 }

// since records a call that began at the given time.
func (t *timing) since(kind timedKind, began time.Time) {
	t.kinds[kind].record(time.Since(began))
}

// getTimed reads a value without a transaction. It times the call if its turn has come.
func (db *DB) getTimed(dst, key []byte, want bool) ([]byte, error) {
	if t := db.timing; t != nil && t.draws() {
		began := time.Now()
		out, err := db.getAny(dst, key, want)
		t.since(timedGet, began)
		return out, err
	}
	return db.getAny(dst, key, want)
}

// getAny reads without a snapshot if that is possible.
func (db *DB) getAny(dst, key []byte, want bool) ([]byte, error) {
	out, err := db.getOnce(dst, key, want)
	if err == errRegister {
		return db.getRegistered(dst, key, want)
	}
	return out, err
}

// write commits an op. It times the call if its turn has come.
func (db *DB) write(o *op) error {
	if t := db.timing; t != nil && t.draws() {
		began, what := time.Now(), timedWrite
		if len(o.entries) == 1 {
			what = timedPut
			if o.entries[0].kind == record.KindDelete {
				what = timedDelete
			}
		}
		err := db.writeOp(o)
		t.since(what, began)
		return err
	}
	return db.writeOp(o)
}

// publishTimed is publish. It times the call if its turn has come.
func (tx *Tx) publishTimed() error {
	if t := tx.db.timing; t != nil && t.draws() {
		began := time.Now()
		err := tx.publish()
		t.since(timedCommit, began)
		return err
	}
	return tx.publish()
}

const (
	subBits    = 3 // an octave has 1 << subBits buckets
	octaves    = 40
	subBuckets = 1 << subBits
)

// timer is a histogram under way. Any goroutine may record in it.
type timer struct {
	sum, max atomic.Int64
	counts   [octaves * subBuckets]atomic.Uint64
}

func (r *timer) record(d time.Duration) {
	ns := max(int64(d), 0)
	r.counts[bucketOf(uint64(ns))].Add(1)
	r.sum.Add(ns)
	for {
		most := r.max.Load()
		if ns <= most || r.max.CompareAndSwap(most, ns) {
			return
		}
	}
}

// bucketOf returns the number of the bucket of a latency in nanoseconds. The first buckets have one
// nanosecond each. The last one also takes all that is longer.
func bucketOf(ns uint64) int {
	shift := max(bits.Len64(ns)-subBits-1, 0)
	return min(shift*subBuckets+int(ns>>shift), octaves*subBuckets-1)
}

// bucketEnd returns the end of a bucket in nanoseconds.
func bucketEnd(i int) uint64 {
	shift := max(i/subBuckets-1, 0)
	return uint64(i-shift*subBuckets+1) << shift
}

func (r *timer) histogram() LatencyHistogram {
	h := LatencyHistogram{Sum: time.Duration(r.sum.Load()), Max: time.Duration(r.max.Load())}
	for i := range r.counts {
		if n := r.counts[i].Load(); n > 0 {
			h.Count += n
			h.Buckets = append(h.Buckets, LatencyBucket{time.Duration(bucketEnd(i)), n})
		}
	}
	return h
}
