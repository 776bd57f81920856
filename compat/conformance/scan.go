package conformance

import (
	"fmt"
	"math"
	"slices"

	"nvkv/compat"
)

var scanCases = []testCase{
	{"ByteOrder", byteOrder},
	{"ScanStart", scanStart},
	{"ScanBound", scanBound},
	{"ScanStops", scanStops},
	{"ScanSeesDeletes", scanSeesDeletes},
	{"ScanManyPages", scanManyPages},
	{"ScanNestedReads", scanNestedReads},
}

func byteOrder(s *store) {
	want := make(map[string]string)
	for _, key := range []string{"\x00", "\x00\x00", "\x00\x01", "\x01", "A", "a", "aa", "ab", "b", "\x7f", "\x80", "é", "\xff", "\xff\x00", "\xff\xff"} {
		want[key] = key
	}
	for i := range 500 {
		key := string(pattern(1+i%20, uint64(i)))
		want[key] = fmt.Sprint(i)
	}
	var ops []compat.Op
	for key, value := range want {
		ops = append(ops, putOp(key, value))
	}
	s.write(ops...)
	s.wantAll(s, want)
}

// numbered stores n entries with even numbers as keys, 0, 2, 4, ... and
// returns them.
func numbered(s *store, n int) []entry {
	entries := make([]entry, n)
	for i := range entries {
		entries[i] = entry{fmt.Sprintf("%06d", 2*i), fmt.Sprintf("value-%d", i)}
	}
	for _, i := range []int{1, 0} { // odd places first, so that key order differs from order of arrival
		for ; i < n; i += 2 {
			s.put(entries[i].key, entries[i].value)
		}
	}
	return entries
}

func scanStart(s *store) {
	all := numbered(s, 50)
	s.wantScan(s, nil, -1, all)
	s.wantScan(s, []byte{}, -1, all)
	for i, e := range all {
		s.wantScan(s, []byte(e.key), -1, all[i:])
		s.wantScan(s, fmt.Appendf(nil, "%06d", 2*i+1), -1, all[i+1:]) // an absent key
		s.wantScan(s, []byte(e.key+"\x00"), -1, all[i+1:])            // just after
		s.wantScan(s, []byte(e.key[:5]), -1, all[i-i%5:])             // a prefix sorts first
	}
	s.wantScan(s, []byte("\xff\xff"), -1, nil)
	s.wantScan(s, []byte("!"), -1, all)
}

func scanBound(s *store) {
	all := numbered(s, 20)
	for n := range 25 {
		s.wantScan(s, nil, n, all[:min(n, 20)])
		s.wantScan(s, []byte("000020"), n, all[10:min(10+n, 20)])
	}
	s.wantScan(s, nil, math.MaxInt, all)
	s.put("", "first")
	s.wantScan(s, nil, 0, nil)
	s.wantScan(s, nil, 1, []entry{{"", "first"}})
	s.wantScan(s, nil, 2, []entry{{"", "first"}, all[0]})
}

func scanStops(s *store) {
	numbered(s, 20)
	s.put("", "first")
	for stop := 1; stop <= 21; stop++ {
		calls := 0
		s.must(s.Scan(nil, -1, func(_, _ []byte) bool {
			calls++
			return calls < stop
		}))
		if calls != stop {
			s.Fatalf("fn was called %d times, and said stop at %d", calls, stop)
		}
	}
}

func scanSeesDeletes(s *store) {
	all := numbered(s, 200)
	var left []entry
	for i, e := range all {
		if i%3 == 0 {
			left = append(left, e)
			continue
		}
		s.del(e.key)
	}
	s.wantScan(s, nil, -1, left)
	s.wantScan(s, []byte(all[1].key), 2, left[1:3])
	for _, e := range left {
		s.del(e.key)
	}
	s.wantScan(s, nil, -1, nil)
}

func scanManyPages(s *store) {
	const n = 5000
	all := make([]entry, n)
	for i := range all {
		all[i] = entry{fmt.Sprintf("key-%08d", i), string(pattern(i%120, uint64(i)))}
	}
	for chunk := range slices.Chunk(all, 500) {
		ops := make([]compat.Op, 0, len(chunk))
		for _, e := range chunk {
			ops = append(ops, putOp(e.key, e.value))
		}
		s.write(ops...)
	}
	s.wantScan(s, nil, -1, all)
	for i := 0; i < n; i += 617 {
		s.wantScan(s, []byte(all[i].key), 100, all[i:min(i+100, n)])
	}
	s.reopen()
	s.wantScan(s, nil, -1, all)
}

func scanNestedReads(s *store) {
	all := numbered(s, 30)
	r := s.snapshot()
	defer r.Close()
	for _, from := range []reader{s, r} {
		outer := 0
		s.must(from.Scan(nil, -1, func(key, value []byte) bool {
			s.want(from, string(key), string(value))
			s.wantScan(from, key, 3, all[outer:min(outer+3, len(all))])
			outer++
			return true
		}))
		if outer != len(all) {
			s.Fatalf("%d entries, want %d", outer, len(all))
		}
	}
}
