package conformance

import (
	"bytes"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"

	"nvkv/compat"
)

var batchCases = []testCase{
	{"BatchEmpty", batchEmpty},
	{"BatchOrder", batchOrder},
	{"BatchAgain", batchAgain},
	{"BatchLarge", batchLarge},
	{"BatchAllOrNone", batchAllOrNone},
	{"BatchAtOneInstant", batchAtOneInstant},
	{"BatchSeenByGets", batchSeenByGets},
}

func batchEmpty(s *store) {
	s.put("k", "v")
	before := s.Stats().UserBytes
	s.must(s.WriteBatch(nil))
	s.must(s.WriteBatch([]compat.Op{}))
	s.wantAll(s, map[string]string{"k": "v"})
	if after := s.Stats().UserBytes; after != before {
		s.Errorf("empty batches counted %d user bytes", after-before)
	}
}

func batchOrder(s *store) {
	s.put("present", "old")
	s.put("gone", "old")
	s.write(
		putOp("a", "1"), putOp("a", "2"), // the later put wins
		putOp("b", "1"), deleteOp("b"), // a delete after it wins
		deleteOp("c"), putOp("c", "1"), // a put after it wins
		putOp("d", "1"), deleteOp("d"), putOp("d", "3"),
		deleteOp("present"), putOp("present", "new"),
		putOp("gone", "new"), deleteOp("gone"),
		deleteOp("absent"), deleteOp("absent"),
	)
	want := map[string]string{"a": "2", "c": "1", "d": "3", "present": "new"}
	s.wantAll(s, want)
	s.reopen()
	s.wantAll(s, want)
}

func batchAgain(s *store) {
	ops := []compat.Op{putOp("a", "1"), deleteOp("b"), putOp("c", "3")}
	for range 3 {
		s.write(ops...)
		s.wantAll(s, map[string]string{"a": "1", "c": "3"})
		s.put("b", "2")
		s.del("a")
	}
}

func batchLarge(s *store) {
	const n = 20000
	want := make(map[string]string, n)
	var ops []compat.Op
	for i := range n {
		key, value := fmt.Sprintf("%08d", i*7919%n), fmt.Sprint("value-", i)
		ops = append(ops, putOp(key, value))
		want[key] = value
	}
	for i := 0; i < n; i += 3 {
		key := fmt.Sprintf("%08d", i)
		ops = append(ops, deleteOp(key))
		delete(want, key)
	}
	s.write(ops...)
	s.wantAll(s, want)
	s.reopen()
	s.wantScan(s, nil, -1, sorted(want))
}

// batchAllOrNone fails a batch at its last operation.
func batchAllOrNone(s *store) {
	s.put("kept", "old")
	ops := []compat.Op{putOp("new", "v"), putOp("kept", "new"), deleteOp("kept")}
	ops = append(ops, compat.Op{Key: bytes.Repeat([]byte("k"), compat.MaxKeyBytes+1)})
	s.wantErr("WriteBatch with a key too large", s.WriteBatch(ops), compat.ErrKeyTooLarge)
	want := map[string]string{"kept": "old"}
	s.wantAll(s, want)
	s.put("later", "v")
	want["later"] = "v"
	s.reopen()
	s.wantAll(s, want)
}

// instantWidth is the number of keys that each batch of batchAtOneInstant and
// batchSeenByGets writes.
const instantWidth = 5

// batchAtOneInstant checks with scans that no part of a batch is visible without the rest.
func batchAtOneInstant(s *store) {
	besideBatches(s, func() {
		seen := make(map[string]int)
		err := s.Scan(nil, -1, func(_, value []byte) bool {
			seen[string(value)]++
			return true
		})
		if err != nil {
			s.Errorf("Scan beside writes: %v", err)
		}
		for value, n := range seen {
			if n != instantWidth {
				s.Errorf("%d of %d entries of batch %s are visible", n, instantWidth, value)
			}
		}
	})
}

// batchSeenByGets reads the keys one by one, upwards and downwards. Once one of them shows a batch,
// all later reads must show it or a later one.
func batchSeenByGets(s *store) {
	besideBatches(s, func() {
		last := -1
		for i := range 2 * instantWidth {
			key := min(i, 2*instantWidth-1-i)
			value, err := s.Get(nil, fmt.Append(nil, "key-", key))
			if err != nil {
				s.Errorf("Get beside writes: %v", err)
				return
			}
			round, err := strconv.Atoi(string(value))
			if err != nil || round < last {
				s.Errorf("key %d shows batch %s after another showed batch %d", key, value, last)
			}
			last = round
		}
	})
}

// besideBatches calls look from two goroutines while batches are written. All batches write the
// same keys, with their number as the values.
func besideBatches(s *store, look func()) {
	const rounds = 100
	batch := func(round int) []compat.Op {
		ops := make([]compat.Op, instantWidth)
		for i := range ops {
			ops[i] = putOp(fmt.Sprint("key-", i), fmt.Sprint(round))
		}
		return ops
	}
	s.write(batch(0)...)
	var writing atomic.Bool
	writing.Store(true)
	var readers sync.WaitGroup
	for range 2 {
		readers.Go(func() {
			for writing.Load() {
				look()
			}
		})
	}
	for round := 1; round <= rounds; round++ {
		s.write(batch(round)...)
	}
	writing.Store(false)
	readers.Wait()
}
