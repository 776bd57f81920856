//go:build zz

package kv

import (
	"encoding/binary"
	"fmt"
	"golang.org/x/sys/unix"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
)

func zsum(p []byte) (sum uint64) {
	for ; len(p) >= 8; p = p[8:] {
		sum += binary.LittleEndian.Uint64(p)
	}
	for _, b := range p {
		sum += uint64(b)
	}
	return sum
}

var zsink uint64

var zcases = map[string]func(db *DB, keys [][]byte, rng *rand.Rand) func() int{}

func zcpu() int64 {
	var ts unix.Timespec
	unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &ts)
	return ts.Nano()
}

func TestZZQuick(t *testing.T) {
	runtime.LockOSThread()
	n := benchRecords()
	keys := benchKeys(n)
	value := make([]byte, benchValueBytes)
	dir, _ := os.MkdirTemp("/dev/shm", "zz")
	defer os.RemoveAll(dir)
	loads := []float64{}
	mk := func(name string, ordered bool) *DB {
		db, err := Open(filepath.Join(dir, name), nil)
		if err != nil {
			t.Fatal(err)
		}
		ks := keys
		if ordered {
			ks = slices.Clone(keys)
			slices.SortFunc(ks, func(a, b []byte) int { return strings.Compare(string(a), string(b)) })
		}
		for i := 0; i < n; {
			s := zcpu()
			j := min(i+2000, n)
			for ; i < j; i++ {
				if err := db.Put(ks[i], value); err != nil {
					t.Fatal(err)
				}
			}
			if !ordered {
				loads = append(loads, float64(zcpu()-s)/2000)
			}
		}
		return db
	}
	want := os.Getenv("ZZ")
	db := mk("r", false)
	defer db.Close()
	slices.Sort(loads)
	fmt.Printf("  load       min %7.1f  p25 %7.1f  med %7.1f\n", loads[0], loads[len(loads)/4], loads[len(loads)/2])
	rng := rand.New(rand.NewPCG(1, 2))
	full := func(db *DB) func() int {
		var from []byte
		return func() int {
			k := 0
			db.View(func(tx *Tx) error {
				var s uint64
				for key, v := range tx.All(from, nil) {
					s += zsum(key) + zsum(v)
					if k++; k == 10000 {
						from = append(from[:0], key...)
						break
					}
				}
				if k < 10000 {
					from = nil
				}
				zsink += s
				return nil
			})
			return k
		}
	}
	cases := []struct {
		name string
		fn   func() int
	}{}
	add := func(name string, fn func() int) {
		if want == "" || strings.Contains(want, name) {
			cases = append(cases, struct {
				name string
				fn   func() int
			}{name, fn})
		}
	}
	add("full", full(db))
	if want == "" || strings.Contains(want, "ord") {
		od := mk("o", true)
		defer od.Close()
		add("ord", full(od))
	}
	flat := make([]byte, 0, 1<<20*23)
	for range 1 << 20 {
		flat = append(flat, keys[rng.IntN(len(keys))]...)
	}
	at := 0
	next := func() []byte {
		at = (at + 23) % len(flat)
		return flat[at : at+23]
	}
	add("scan50", func() int {
		for range 200 {
			var s uint64
			zscan(db, next(), 50, func(k, v []byte) bool { s += zsum(k) + zsum(v); return true })
			zsink += s
		}
		return 200
	})
	var dst []byte
	add("get", func() int {
		for range 2000 {
			var err error
			if dst, err = db.GetAppend(dst[:0], next()); err != nil {
				t.Fatal(err)
			}
			zsink += zsum(dst)
		}
		return 2000
	})
	add("update", func() int {
		for range 2000 {
			if err := db.Put(next(), value); err != nil {
				t.Fatal(err)
			}
		}
		return 2000
	})
	reps := zreps()
	for _, c := range cases {
		var all []float64
		for range reps {
			s := zcpu()
			k := c.fn()
			all = append(all, float64(zcpu()-s)/float64(k))
		}
		slices.Sort(all)
		fmt.Printf("  %-10s min %7.1f  p25 %7.1f  med %7.1f\n", c.name, all[0], all[len(all)/4], all[len(all)/2])
	}
}

func zreps() int {
	if os.Getenv("REPS") == "" {
		return 200
	}
	var n int
	fmt.Sscan(os.Getenv("REPS"), &n)
	return n
}
