package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	"nvkv/compat/raft/client"
	"nvkv/internal/effort"
)

// The test runs three processes, clients that record what they saw, and faults. The history must
// be linearizable; what has no answer may have happened at any time after it was sent, or never.

type input struct {
	op       byte // 'g' get, 'p' put, 'c' compare and swap, 'd' delete
	key      string
	old, new string // "": there is no such key
}

type output struct {
	value   string // of a get
	swapped bool
	unknown bool
}

var registers = porcupine.Model{
	Partition: func(history []porcupine.Operation) [][]porcupine.Operation {
		var parts [][]porcupine.Operation
		at := map[string]int{}
		for _, o := range history {
			k := o.Input.(input).key
			i, ok := at[k]
			if !ok {
				i = len(parts)
				at[k] = i
				parts = append(parts, nil)
			}
			parts[i] = append(parts[i], o)
		}
		return parts
	},
	Init: func() any { return "" },
	Step: func(state, in, out any) (bool, any) {
		s, i, o := state.(string), in.(input), out.(output)
		switch i.op {
		case 'g':
			return o.value == s, s
		case 'p', 'd':
			return true, i.new
		}
		if s == i.old {
			return o.swapped || o.unknown, i.new
		}
		return !o.swapped || o.unknown, s
	},
	DescribeOperation: func(in, out any) string { return fmt.Sprintf("%+v -> %+v", in, out) },
}

// worker sends operations one after the other.
type worker struct {
	id      int
	r       *rand.Rand
	c       *client.Client
	history []porcupine.Operation
	known   map[string]string
	unknown int
}

// keysAt: a key is used by a few hundred operations, so that its history can be checked quickly.
func keyAt(r *rand.Rand, count int64) string { return fmt.Sprintf("k%d-%d", count/200, r.IntN(3)) }

func (w *worker) run(ctx context.Context, begun time.Time, count *atomic.Int64) {
	for n := 0; ctx.Err() == nil; n++ {
		key := keyAt(w.r, count.Add(1))
		i := input{op: "ggpcd"[w.r.IntN(5)], key: key}
		if i.op == 'p' || i.op == 'c' {
			i.new = fmt.Sprintf("%d.%d", w.id, n)
		}
		if i.op == 'c' {
			i.old = w.known[key]
		}
		w.do(i, begun)
		time.Sleep(time.Duration(w.r.IntN(4)) * time.Millisecond)
	}
}

// do sends one operation and records what came of it.
func (w *worker) do(i input, begun time.Time) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	op := porcupine.Operation{ClientId: w.id, Input: i, Call: int64(time.Since(begun))}
	var o output
	var err error
	key := []byte(i.key)
	switch i.op {
	case 'g':
		var v []byte
		v, err = w.c.Get(ctx, key)
		if errors.Is(err, client.ErrNotFound) {
			err = nil
		}
		o.value = string(v)
		w.known[i.key] = o.value
	case 'p':
		err = w.c.Put(ctx, key, []byte(i.new), 0)
	case 'd':
		err = w.c.Delete(ctx, key)
	case 'c':
		var old []byte
		if i.old != "" {
			old = []byte(i.old)
		}
		o.swapped, err = w.c.CompareAndSwap(ctx, key, old, []byte(i.new))
	}
	op.Return = int64(time.Since(begun))
	if err != nil {
		if !errors.Is(err, client.ErrUnknown) {
			return // a read, or a write that was not sent
		}
		w.unknown++
		o.unknown, op.Return = true, math.MaxInt64
	}
	op.Output = o
	w.history = append(w.history, op)
}

func TestLinearizable(t *testing.T) {
	rounds := effort.Pick(1, 1, 6, 60) // each has all faults but in the short form
	seed := uint64(18)
	t.Logf("seed %d, %d rounds", seed, rounds)
	r := rand.New(rand.NewPCG(seed, 1))
	c := newCluster(t)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	begun := time.Now()
	var count atomic.Int64
	var wg sync.WaitGroup
	var workers []*worker
	for id := range 5 {
		w := &worker{id: id, r: rand.New(rand.NewPCG(seed, uint64(id+2))), known: map[string]string{}}
		w.c = client.New(c.addresses(), client.Options{Attempt: time.Second})
		workers = append(workers, w)
		wg.Go(func() { w.run(ctx, begun, &count) })
	}
	for range rounds {
		faults := c.faults(r)
		r.Shuffle(len(faults), func(i, j int) { faults[i], faults[j] = faults[j], faults[i] })
		for _, f := range faults[:effort.Pick(2, len(faults), len(faults), len(faults))] {
			t.Logf("%5.1f s: %s", time.Since(begun).Seconds(), f.name)
			f.do()
			c.work(&count, 60)
			f.undo()
			c.work(&count, 60)
		}
	}
	stop()
	wg.Wait()
	c.agree()
	// Read every key once more: nothing that was acknowledged is lost.
	last := &worker{id: len(workers), c: workers[0].c, known: map[string]string{}}
	var history []porcupine.Operation
	unknown := 0
	keys := map[string]bool{}
	for _, w := range workers {
		history = append(history, w.history...)
		unknown += w.unknown
		for _, o := range w.history {
			keys[o.Input.(input).key] = true
		}
	}
	for k := range keys {
		read := len(last.history) + 1
		c.until("a last read of each key", func() bool {
			last.do(input{op: 'g', key: k}, begun)
			return len(last.history) == read
		})
	}
	history = append(history, last.history...)
	t.Logf("%d operations, %d of them without an answer, %d keys", len(history), unknown, len(keys))
	switch porcupine.CheckOperationsTimeout(registers, history, effort.Hang) {
	case porcupine.Illegal:
		t.Error("the history is not linearizable")
	case porcupine.Unknown: // a machine so slow that few operations got an answer
		effort.NotTested(t, "the history has too many orders to check them all")
	}
}

// TestChecker: the checker refuses a lost write and a stale read.
func TestChecker(t *testing.T) {
	op := func(at int64, i input, o output) porcupine.Operation {
		return porcupine.Operation{Input: i, Output: o, Call: at, Return: at + 1}
	}
	put := op(1, input{op: 'p', key: "a", new: "1"}, output{})
	for i, c := range []struct {
		history []porcupine.Operation
		ok      bool
	}{
		{[]porcupine.Operation{put, op(3, input{op: 'g', key: "a"}, output{value: "1"})}, true},
		{[]porcupine.Operation{put, op(3, input{op: 'g', key: "a"}, output{})}, false},
		{[]porcupine.Operation{put, op(3, input{op: 'c', key: "a", old: "1", new: "2"}, output{})}, false},
		{[]porcupine.Operation{put, op(3, input{op: 'p', key: "a", new: "2"}, output{}), op(5, input{op: 'g', key: "a"}, output{value: "1"})}, false},
	} {
		if ok := porcupine.CheckOperations(registers, c.history); ok != c.ok {
			t.Errorf("history %d: %v", i, ok)
		}
	}
}
