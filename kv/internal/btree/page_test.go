package btree

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"nvkv/internal/effort"
)

// pageModel is a leaf with the sorted keys that it must hold.
type pageModel struct {
	t      testing.TB
	ix     *Index
	pg     *Page
	keys   [][]byte
	prefix []byte
	tmp    Page
}

func newPageModel(t testing.TB, prefix []byte) *pageModel {
	m := &pageModel{t: t, ix: &Index{}, pg: new(Page), prefix: prefix}
	initPage(m.pg, 1, 0, 1, prefix)
	return m
}

func (m *pageModel) must(err error) {
	m.t.Helper()
	if err != nil {
		m.t.Fatal(err)
	}
}

// do inserts an absent key and removes an existing one.
func (m *pageModel) do(rest []byte) {
	key := append(bytes.Clone(m.prefix), rest...)
	want, there := slices.BinarySearchFunc(m.keys, key, bytes.Compare)
	at, found, err := m.ix.Search(m.pg, key)
	if err != nil || at != want || found != there {
		m.t.Fatalf("search of %q among %q: %d, %v, %v; want %d, %v", key, m.keys, at, found, err, want, there)
	}
	if found {
		removeEntry(m.pg, at)
		m.keys = slices.Delete(m.keys, at, at+1)
		return
	}
	it, err := itemFor(m.pg, key, chain{})
	if err != nil {
		m.t.Fatal(err)
	}
	if Count(m.pg) == LeafFanout || freeBytes(m.pg) < entryBytes(m.pg, len(it.cell)) {
		m.split(at)
		return
	}
	insertEntry(m.pg, at, it, Child{}, &m.tmp)
	m.keys = slices.Insert(m.keys, at, key)
}

// split splits the page and compares both halves. If they fit one page it joins them again,
// otherwise it continues with one of them.
func (m *pageModel) split(at int) {
	m.check(m.pg, m.keys)
	mid := splitPoint(m.pg, at)
	sep := separator(m.keys[mid-1], m.keys[mid])
	var left, right, joined Page
	initPage(&left, 1, 0, 1, fencePrefix(m.keys[0], sep))
	initPage(&right, 2, 0, 1, fencePrefix(sep, append(bytes.Clone(m.keys[len(m.keys)-1]), 0)))
	m.must(m.ix.fill(&left, m.pg, 0, mid))
	m.must(m.ix.fill(&right, m.pg, mid, len(m.keys)))
	m.check(&left, m.keys[:mid])
	m.check(&right, m.keys[mid:])
	if len(m.prefix) <= maxPrefix && mergeFits(&left, &right, len(m.prefix), len(sep)) {
		m.must(m.ix.joined(&joined, 3, &left, &right, m.prefix, sep, chain{}))
		m.check(&joined, m.keys)
	}
	initPage(&joined, 3, 0, 1, m.prefix)
	m.must(m.ix.fill(&joined, &left, 0, mid))
	m.keys, *m.pg = m.keys[:mid], joined
}

func (m *pageModel) check(pg *Page, keys [][]byte) {
	m.t.Helper()
	if n := Count(pg); n != len(keys) || !pageSound(pg, 0) {
		m.t.Fatalf("%d keys in the page, want %d; it is sound: %v", n, len(keys), pageSound(pg, 0))
	}
	for i, key := range keys {
		got, _, err := m.ix.KeyOf(pg, len(keys), i)
		if err != nil || !bytes.Equal(got, key) {
			m.t.Fatalf("key %d of the page is %q, %v; want %q", i, got, err, key)
		}
	}
}

// TestPageAgainstSlice compares a page with a sorted slice, through inserts, removals, splits and
// joins. Some keys are shorter than a head, some differ only by zeros at the end, some have the
// same head.
func TestPageAgainstSlice(t *testing.T) {
	m := newPageModel(t, nil)
	for _, k := range []string{"a", "a\x00", "", "\x00", "a\x00\x00\x00", "a\x00\x00\x00\x00", "a\x00\x00\x00x", "abcd", "abcde", "abcd\x00", "abc"} {
		m.do([]byte(k))
		m.check(m.pg, m.keys)
	}
	for seed := range uint64(30) {
		rng := rand.New(rand.NewPCG(seed, 7))
		m := newPageModel(t, bytes.Repeat([]byte("p"), []int{0, 1, 9, 255}[seed%4]))
		alphabet, longest := 1+rng.IntN(4), 1+rng.IntN([]int{4, 12, 600}[rng.IntN(3)])
		for range 600 {
			rest := make([]byte, rng.IntN(longest))
			for i := range rest {
				rest[i] = byte(rng.IntN(alphabet))
			}
			m.do(rest)
		}
		m.check(m.pg, m.keys)
	}
}

// FuzzPage is TestPageAgainstSlice with keys of the fuzzer. Each byte of lengths is the length of a
// rest, which is cut out of data.
func FuzzPage(f *testing.F) {
	f.Add(0, []byte{1, 2, 0, 4, 5, 3}, []byte("a\x00a\x00\x00\x00xabcd"))
	f.Add(255, []byte{9, 9, 9, 200, 200, 0}, bytes.Repeat([]byte("head"), 99))
	f.Fuzz(func(t *testing.T, prefix int, lengths, data []byte) {
		m := newPageModel(t, bytes.Repeat([]byte("p"), int(uint(prefix)%(maxPrefix+1))))
		for i, n := range lengths {
			from := min(i, len(data))
			m.do(data[from:min(from+int(n), len(data))])
		}
		m.check(m.pg, m.keys)
	})
}

// TestSearchEndsWhateverThePageHolds: a point read may meet a page that is being changed, where
// the heads ascend no longer. Its search still ends, inside the page.
func TestSearchEndsWhateverThePageHolds(t *testing.T) {
	ix := &Index{}
	key := bytes.Repeat([]byte{0xff}, 12)
	for seed := range uint64(200) {
		rng := rand.New(rand.NewPCG(seed, 1))
		var pg, tmp Page
		initPage(&pg, 1, 0, 1, nil)
		n := 1 + rng.IntN(40)
		for i := range n {
			rest := bytes.Clone(key[:4+rng.IntN(8)])
			insertEntry(&pg, i, itemOf(rest), Child{}, &tmp)
			if rng.IntN(2) == 0 {
				setHead(&pg, i, rng.Uint32())
			}
		}
		ended := make(chan int, 1)
		go func() {
			at, _, _ := ix.Search(&pg, key)
			ended <- at
		}()
		select {
		case at := <-ended:
			if at > n {
				t.Fatalf("seed %d: entry %d of %d", seed, at, n)
			}
		case <-time.After(effort.Hang):
			t.Fatalf("seed %d: the search does not end", seed)
		}
	}
}
