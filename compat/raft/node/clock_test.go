package node

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	nvkvraft "nvkv/compat/raft"
)

// TestMajorityTime: as long as the clocks of a minority are wrong, whatever they show and whichever
// majority answers, the time is not ahead of all right clocks; where all answer, it is not behind
// all of them either.
func TestMajorityTime(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	begin := time.Unix(1_000_000, 0)
	for range 20_000 {
		n := 1 + r.IntN(7)
		var right, clocks []time.Time
		for i := range n {
			at := begin.Add(time.Duration(r.IntN(1000)))
			if i < n-(n-1)/2 {
				right = append(right, at)
			} else {
				at = begin.Add(time.Duration(r.IntN(7)-3) * time.Hour)
			}
			clocks = append(clocks, at)
		}
		r.Shuffle(n, func(i, j int) { clocks[i], clocks[j] = clocks[j], clocks[i] })
		known := r.IntN(n + 1)
		at, ok := majorityTime(slices.Clone(clocks[:known]), n)
		if ok != (known >= n/2+1) {
			t.Fatalf("%d of %d clocks: %v", known, n, ok)
		}
		if !ok {
			continue
		}
		if at.After(slices.MaxFunc(right, time.Time.Compare)) {
			t.Fatalf("%v is ahead of %v, of %v", at, right, clocks[:known])
		}
		if known == n && at.Before(slices.MinFunc(right, time.Time.Compare)) {
			t.Fatalf("%v is behind %v, of %v", at, right, clocks)
		}
	}
}

// TestClocksThatAreWrong: the leader's clock jumps ahead by two days. The cluster's does not: keys
// live as long as they were to, on all nodes and under the next leader. A new leader has the time
// of the others.
func TestClocksThatAreWrong(t *testing.T) {
	var off [3]atomic.Int64
	c := newTrio(t, func(c *Config) {
		i := int(c.ID[1] - '0')
		c.Now = func() time.Time { return time.Now().Add(time.Duration(off[i].Load())) }
	})
	read := func() {
		for i, n := range c.nodes {
			c.until("the clocks of "+id(i), func() error {
				return n.use(func(r *running) error {
					if !r.readClocks() {
						return fmt.Errorf("not known")
					}
					return nil
				})
			})
		}
	}
	round := 0
	lives := func() {
		t.Helper()
		round++
		c.put("later", fmt.Sprint(round))
		c.everywhere("later", fmt.Sprint(round))
		for i, n := range c.nodes {
			if _, _, err := n.Get(t.Context(), Stale, []byte("a")); err != nil {
				t.Fatalf("%s: %v", id(i), err)
			}
			if err := n.Read(t.Context(), Stale, func(s *nvkvraft.FSM, _ uint64) error {
				if ahead := time.Until(s.Clock()); ahead > time.Hour {
					t.Errorf("%s: the state is %v ahead", id(i), ahead)
				}
				return nil
			}); err != nil {
				t.Error(err)
			}
		}
	}
	c.leader("put", func(n *Node) error { return putFor(n, "a", 12*time.Hour) })
	leader := func() (at int) {
		c.leader("finding the leader", func(n *Node) error {
			at = slices.Index(c.nodes[:], n)
			return nil
		})
		return at
	}
	wrong := leader()
	off[wrong].Store(int64(48 * time.Hour))
	lives()
	read()
	lives()
	c.leader("transfer", func(n *Node) error { return n.Transfer(id((wrong + 1) % 3)) })
	lives()
	off[wrong].Store(-int64(48 * time.Hour))
	read()
	lives()

	// It is the majority that counts.
	off[0].Store(int64(48 * time.Hour))
	off[1].Store(int64(48 * time.Hour))
	off[2].Store(0)
	read()
	c.leader("put", func(n *Node) error { _, err := n.Do(putOf("b", "1")); return err })
	for i, n := range c.nodes {
		c.until("expiry on "+id(i), func() error {
			if _, _, err := n.Get(t.Context(), Stale, []byte("a")); err == nil {
				return fmt.Errorf("it is there")
			}
			return nil
		})
	}
}
