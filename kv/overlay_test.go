package kv

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"nvkv/kv/internal/record"
)

// TestOverlay compares an overlay with a sorted list of keys, and checks its links.
func TestOverlay(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 7))
	var o overlay
	want := map[string]string{}
	for i := range 5000 {
		k, v := fmt.Append(nil, rng.IntN(2000)), bytes.Repeat([]byte{byte(i)}, rng.IntN(40))
		if i%500 == 0 {
			v = make([]byte, chunkBytesMax) // it has memory of its own
		}
		o.set(record.KindPut, k, v, int64(i))
		want[string(k)] = string(v)
	}
	keys := make([]string, 0, len(want))
	for k := range want {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	if o.added != len(keys) {
		t.Errorf("%d nodes for %d keys", o.added, len(keys))
	}
	at := func(i int) string {
		if i < 0 || i >= len(keys) {
			return "none"
		}
		return keys[i]
	}
	name := func(n *node) string {
		if n == nil {
			return "none"
		}
		return string(n.key)
	}
	for i := range 2100 {
		probe := fmt.Append(nil, i)
		pos, there := slices.BinarySearch(keys, string(probe))
		above := pos
		if there {
			above++
		}
		first, _ := o.find(probe)
		got := [4]string{name(first), name(o.get(probe)), name(o.after(probe)), name(o.below(probe))}
		exact := "none"
		if there {
			exact = keys[pos]
		}
		if w := [4]string{at(pos), exact, at(above), at(pos - 1)}; got != w {
			t.Fatalf("around %s: %v, want %v", probe, got, w)
		}
	}
	n, prev := o.head, (*node)(nil)
	for i := range keys {
		if name(n) != keys[i] || n.prev != prev || string(n.value()) != want[keys[i]] {
			t.Fatalf("node %d is %s, want %s", i, name(n), keys[i])
		}
		prev, n = n, n.next
	}
	if n != nil || o.tail != prev {
		t.Error("the ends do not meet")
	}
	es := o.entries()
	if !sortedKeys(es) || len(es) != len(keys) {
		t.Error("entries are not sorted")
	}
	for i, e := range es {
		if string(e.value()) != want[keys[i]] || cap(e.image)%8 != 0 {
			t.Fatalf("entry %d: %d bytes, room to %d", i, len(e.image), cap(e.image))
		}
	}
}

// TestOverlayRanges compares the ranges of an overlay with a set of keys: no two of them overlap or
// touch, and together they are the deleted keys.
func TestOverlayRanges(t *testing.T) {
	rng := rand.New(rand.NewPCG(8, 8))
	name := func(i int) []byte { return fmt.Appendf(nil, "%03d", i) }
	for range 50 {
		const keys = 200
		var o overlay
		var deleted, put [keys]bool
		for range 60 {
			from := rng.IntN(keys)
			to := min(from+1+rng.IntN(1<<rng.IntN(7)), keys)
			r := keyRange{start: name(from), end: name(to)}
			if to == keys {
				r.end = nil
			}
			o.deleteRange(r)
			for i := from; i < to; i++ {
				deleted[i], put[i] = true, false
			}
			i := rng.IntN(keys)
			o.set(record.KindPut, name(i), nil, 0)
			put[i] = true
		}
		for i := range keys {
			n := o.change(name(i))
			if (o.rangeAt(name(i)) != nil) != deleted[i] || (n != nil) != (deleted[i] || put[i]) || n != nil && (n.kind == record.KindPut) != put[i] {
				t.Fatalf("key %d: %+v; deleted %v, put %v", i, n, deleted[i], put[i])
			}
		}
		stretches := 0
		for i := range keys {
			if deleted[i] && (i == 0 || !deleted[i-1]) {
				stretches++
			}
		}
		if es := o.entries(); rangesOf(es) != stretches || o.ranges.nodes != stretches {
			t.Fatalf("%d ranges, %d nodes, want %d", rangesOf(es), o.ranges.nodes, stretches)
		}
		for i, e := range o.entries() {
			if e.kind == record.KindDelete {
				t.Fatalf("entry %d deletes %s, which a range does", i, e.key)
			}
		}
	}
}

func BenchmarkOverlaySet(b *testing.B) {
	keys := benchKeys(benchRecords())
	value := make([]byte, benchValueBytes)
	var o overlay
	for i := 0; b.Loop(); i++ {
		if i%len(keys) == 0 {
			o = overlay{}
		}
		o.set(record.KindPut, keys[i%len(keys)], value, 0)
	}
}

// TestSortedList inserts keys whose common prefix becomes shorter, in several orders, and removes
// some, beside a sorted slice.
func TestSortedList(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	number := func(i int) []byte { return fmt.Appendf(nil, "a long prefix/%08d", i) }
	orders := map[string]func(i int) []byte{
		"ascending":  number,
		"descending": func(i int) []byte { return number(9000 - i) },
		"random":     func(int) []byte { return number(rng.IntN(100000)) },
		"shorter and shorter": func(i int) []byte {
			k := number(rng.IntN(1000))
			return append(k[:max(len(k)-i/100, 0)], byte(i), byte(i>>8))
		},
		"zeros": func(int) []byte { return make([]byte, rng.IntN(2000)) },
	}
	for name, key := range orders {
		var l sortedList
		var want []string
		for i := range 4000 {
			k := key(i)
			at, there := slices.BinarySearch(want, string(k))
			n, p := l.find(k)
			if found := n != nil && bytes.Equal(n.key, k); found != there {
				t.Fatalf("%s: %q is there: %v, want %v", name, k, found, there)
			}
			switch {
			case !there:
				l.insert(k, n, p)
				want = slices.Insert(want, at, string(k))
			case i%2 == 0:
				l.remove(n)
				want = slices.Delete(want, at, at+1)
			}
		}
		at, last := 0, (*node)(nil)
		for n := l.head; n != nil; last, n = n, n.next {
			if at == len(want) || string(n.key) != want[at] || n.prev != last || l.get(n.key) != n {
				t.Fatalf("%s: node %d is %q", name, at, n.key)
			}
			at++
		}
		if at != len(want) || l.nodes != at || l.tail != last {
			t.Errorf("%s: %d nodes, want %d", name, at, len(want))
		}
	}
}
