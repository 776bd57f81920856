package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/blevesearch/vellum"

	"nvkv/internal/effort"
	"nvkv/nvmap"
)

// dictionary returns an FST of random words, whose values are their places in order.
func dictionary(t *testing.T, n int) (fst []byte, words [][]byte) {
	t.Helper()
	r := rand.New(rand.NewPCG(1, 2))
	for range n {
		w := binary.BigEndian.AppendUint64(nil, r.Uint64())
		words = append(words, binary.BigEndian.AppendUint32(w, r.Uint32()))
	}
	slices.SortFunc(words, bytes.Compare)
	words = slices.CompactFunc(words, bytes.Equal)
	var b bytes.Buffer
	builder, err := vellum.New(&b, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i, w := range words {
		if err := builder.Insert(w, uint64(i)); err != nil {
			t.Fatal(err)
		}
	}
	if err := builder.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes(), words
}

// TestVellumOnDisk uses a dictionary on an O_DIRECT file, ten times as large as the cache: every
// lookup and a walk in order are right.
func TestVellumOnDisk(t *testing.T) {
	if err := nvmap.PagedSupported(); err != nil {
		effort.NotTested(t, "%v", err)
	}
	const cache = 256 << 10
	fst, words := dictionary(t, 250_000)
	if len(fst) < 10*cache {
		t.Fatalf("a dictionary of %d bytes", len(fst))
	}
	// A device has whole pages. vellum looks for its root at the end of the slice, which is cut to
	// the dictionary's length below.
	path := filepath.Join(t.TempDir(), "words.fst")
	if err := os.WriteFile(path, append(bytes.Clone(fst), make([]byte, nvmap.PageBytes-len(fst)%nvmap.PageBytes)...), 0o600); err != nil {
		t.Fatal(err)
	}
	p, err := nvmap.OpenPaged(path, &nvmap.PagedOptions{Device: nvmap.OpenOptions{Kind: "block"}, CacheBytes: cache})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	dict, err := vellum.Load(p.Bytes()[:len(fst)])
	if err != nil {
		t.Fatal(err)
	}
	r := rand.New(rand.NewPCG(3, 4))
	for range 300 {
		i := r.IntN(len(words))
		if v, found, err := dict.Get(words[i]); v != uint64(i) || !found || err != nil {
			t.Fatalf("word %d: %d, %v, %v", i, v, found, err)
		}
		if _, found, err := dict.Get(append(bytes.Clone(words[i]), 1)); found || err != nil {
			t.Fatalf("a word that is not there: %v, %v", found, err)
		}
	}
	from := len(words) / 2
	it, err := dict.Iterator(words[from], nil)
	for i := from; i < from+2000; i++ {
		if err != nil {
			t.Fatal(err)
		}
		if w, v := it.Current(); v != uint64(i) || !bytes.Equal(w, words[i]) {
			t.Fatalf("in order, word %d is %x", i, w)
		}
		err = it.Next()
	}
	if err != nil && !errors.Is(err, vellum.ErrIteratorDone) {
		t.Fatal(err)
	}
	if s := p.Stats(); s.ResidentMaxBytes > cache || s.Evictions == 0 || s.WriteBacks != 0 {
		t.Errorf("%+v", s)
	}
}
