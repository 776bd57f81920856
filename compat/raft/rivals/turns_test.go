package rivals

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"testing"
	"time"

	nvkvraft "nvkv/compat/raft"
)

var turns = flag.Int("turns", 0, "how many appends TestInTurns makes with each store; 0: none")

// TestInTurns appends to all stores in turns, so that what else the machine does meets all of
// them alike, and prints how long an append took:
//
//	go test -run InTurns -turns 500 -v -dir DIR .
func TestInTurns(t *testing.T) {
	if *turns == 0 {
		t.Skip("a measurement; see -turns")
	}
	all := append(slices.Clone(stores), stores[0])
	all[len(all)-1].name = "nvkv, nothing written ahead"
	all[len(all)-1].open = func(d string) (store, error) {
		return nvkvraft.Open(filepath.Join(d, "raft.nv"), &nvkvraft.Options{PrewriteBytes: -1})
	}
	for _, n := range []int{1, 64} {
		var open []store
		for _, e := range all {
			d := filepath.Join(*dir, fmt.Sprintf("turns-%d", rand.Uint64()))
			mkdir(t, d)
			s, err := e.open(d)
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			open = append(open, s)
		}
		took := make([][]time.Duration, len(all))
		logs := entries(1, n, 256)
		for i := range *turns {
			for j := range all {
				k := (i + j) % len(all)
				begun := time.Now()
				if err := open[k].StoreLogs(logs); err != nil {
					t.Fatal(err)
				}
				took[k] = append(took[k], time.Since(begun))
			}
			for _, l := range logs {
				l.Index += uint64(n)
			}
		}
		for k, e := range all {
			slices.Sort(took[k])
			at := func(percent int) time.Duration { return took[k][len(took[k])*percent/100] }
			t.Logf("%2d entries, %-28s 25 %%: %8s  median: %8s  75 %%: %8s", n, e.name+":", at(25), at(50), at(75))
		}
	}
}
