package kv

import (
	"bytes"
	"fmt"
	"math/bits"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"sync"
	"testing"

	"nvkv/internal/effort"
	"nvkv/nvmap"
)

// judgeDamaged reads, checks and writes a store with damage, and reads it again. It returns the
// reports of the store, and an error for anything that no damage excuses.
func judgeDamaged(db *DB, may map[string][]string) (d damaged, err error) {
	defer rescue(&err)
	if err := d.look(db, may); err != nil {
		return d, err
	}
	if err := d.write(db); err != nil {
		return d, err
	}
	return d, d.get(db, may)
}

// look reads and checks.
func (d *damaged) look(db *DB, may map[string][]string) (err error) {
	defer rescue(&err)
	return firstErr(d.get(db, may), d.iterate(db, may), d.check(db))
}

// verdict is the outcome of an inverted bit.
type verdict int

const (
	refused  verdict = iota // the store did not open
	reported                // a read, Check or a write named a place
	undone                  // the last commit of a store that died
	harmless                // everything was right
	verdicts
)

// area is a part of the medium, as docs/format.md divides it.
type area int

const (
	areaHead area = iota
	areaSupers
	areaGroups // headers, descriptors and maps of groups
	areaSlabs
	areas
)

func (a area) String() string {
	return [...]string{"head", "superblocks", "group metadata", "slabs"}[a]
}

// tinyArea returns the area of a byte in a tiny store: slabs of 4 KiB, 64 in a group, of which the
// first three are metadata.
func tinyArea(at int) area {
	const head, supers, group, metadata = 4096, 5 * 4096, 64 * 4096, 3 * 4096
	switch {
	case at < head:
		return areaHead
	case at < supers:
		return areaSupers
	case (at-supers)%group < metadata:
		return areaGroups
	}
	return areaSlabs
}

// rotTally counts the outcomes.
type rotTally struct {
	flips   [areas][verdicts]int
	nearby  int // of those reported: with a place within a page of the bit
	further int // of those reported: with other places only, as a record's
}

func (r *rotTally) add(o *rotTally) {
	for a := range r.flips {
		for v := range r.flips[a] {
			r.flips[a][v] += o.flips[a][v]
		}
	}
	r.nearby += o.nearby
	r.further += o.further
}

func (r *rotTally) sum(v verdict) (n int) {
	for a := range r.flips {
		n += r.flips[a][v]
	}
	return n
}

func (r *rotTally) log(t *testing.T) {
	t.Helper()
	for a := range areas {
		f := r.flips[a]
		t.Logf("%-14s %8d not opened, %8d reported, %8d undone, %8d harmless", a, f[refused], f[reported], f[undone], f[harmless])
	}
	t.Logf("reports: %d named a place within a page of the flip, %d another", r.nearby, r.further)
}

// place compares the reported places with the place of the bit.
func (r *rotTally) place(at int, places []uint64) {
	for _, p := range places {
		if max(p, uint64(at))-min(p, uint64(at)) < nvmap.PageBytes {
			r.nearby++
			return
		}
	}
	r.further++
}

// judge inverts bits of a byte in a closed store and judges the store, with writes or without.
func (m *rotMedium) judge(at int, bits byte, h *rotHistory, write bool) (verdict, damaged, error) {
	var d damaged
	if err := firstErr(m.restore(), m.spoil(at, bits)); err != nil {
		return 0, d, err
	}
	var db *DB
	err := guarded(func() (err error) { db, err = OpenDevice(m, rotOptions()); return err })
	if err != nil {
		return refused, d, d.tell(err)
	}
	defer abandon(db)
	together := h.together
	if write {
		together *= 2 // they are read twice
		d, err = judgeDamaged(db, h.may)
	} else {
		err = d.look(db, h.may)
	}
	switch {
	case err != nil:
		return 0, d, err
	case d.stale != 0 && d.stale != together && together >= 0:
		return 0, d, fmt.Errorf("%d keys answered what they held before, of a commit that changed %d", d.stale, h.together)
	case len(d.places) > 0:
		return reported, d, nil
	case d.stale > 0:
		return undone, d, nil
	}
	return harmless, d, nil
}

// spoils are the errors to try: for each byte, sets of bits that are inverted together, one set at
// a time.
type spoils [][]byte // by byte

// spoilAll tries spoils on a store, each byte with each of its sets, on all processors. It also
// writes to the store if written says so.
func spoilAll(t *testing.T, image []byte, h *rotHistory, ways spoils, written func(at int, bits byte) bool) *rotTally {
	t.Helper()
	workers := runtime.GOMAXPROCS(0)
	tallies := make([]rotTally, workers)
	var wg sync.WaitGroup
	for w := range workers {
		m := newRotMedium(t, 4<<20)
		m.hold(t, image)
		wg.Go(func() {
			for at := w; at < len(image) && !t.Failed(); at += workers {
				for _, bits := range ways[at] {
					v, d, err := m.judge(at, bits, h, written(at, bits))
					if err != nil {
						t.Errorf("%08b turned over at %#x (%v): %v", bits, at, tinyArea(at), err)
						break
					}
					tallies[w].flips[tinyArea(at)][v]++
					if len(d.places) > 0 {
						tallies[w].place(at, d.places)
					}
				}
			}
		})
	}
	wg.Wait()
	for w := range tallies[1:] {
		tallies[0].add(&tallies[1+w])
	}
	return &tallies[0]
}

// everySingle are the eight ways to invert one bit of a byte.
var everySingle = []byte{1, 2, 4, 8, 16, 32, 64, 128}

// chooseSpoils chooses the errors to try on an image. picked has one byte of each aligned stretch
// of step bytes, with an error from way; of a page in a slab that was never written it has one byte
// only, because nothing reads such a page. every has the same, and every bit of the other pages.
// blank is the number of pages that were never written.
func chooseSpoils(image []byte, step int, rng *rand.Rand, way func() byte) (picked, every spoils, blank int) {
	picked, every = make(spoils, len(image)), make(spoils, len(image))
	for page := 0; page < len(image); page += nvmap.PageBytes {
		if tinyArea(page) == areaSlabs && bytes.Count(image[page:page+nvmap.PageBytes], []byte{0}) == nvmap.PageBytes {
			at := page + rng.IntN(nvmap.PageBytes)
			picked[at] = []byte{way()}
			every[at] = picked[at]
			blank++
			continue
		}
		for at := page; at < page+nvmap.PageBytes; at += step {
			picked[at+rng.IntN(step)] = []byte{way()}
		}
		for at := page; at < page+nvmap.PageBytes; at++ {
			every[at] = everySingle
		}
	}
	return picked, every, blank
}

// rotPart reads NVKV_PART, for example "2/8" for the second of eight parts, and keeps only the
// pages of that part. The long form takes minutes.
func rotPart(t *testing.T, ways spoils) {
	t.Helper()
	var part, parts int
	text := os.Getenv("NVKV_PART")
	if text == "" {
		return
	}
	if n, err := fmt.Sscanf(text, "%d/%d", &part, &parts); n != 2 || err != nil || part < 1 || part > parts {
		t.Fatalf("NVKV_PART=%q, not the number of a part and of all parts", text)
	}
	for at := range ways {
		if at/nvmap.PageBytes%parts != part-1 {
			ways[at] = nil
		}
	}
	t.Logf("part %s", text)
}

// TestBitFlips inverts bits of a small store, one at a time, and reads, checks and writes to the
// result: one bit in each 128 bytes, in the full form one in each aligned word of eight bytes. In
// the long form it inverts every bit; for the additional ones the store is only read and checked.
func TestBitFlips(t *testing.T) {
	t.Parallel()
	testSpoils(t, effort.Pick(128, 128, 8, 8), func(rng *rand.Rand) byte { return 1 << rng.IntN(8) })
}

// TestByteRot is the same for bytes with several wrong bits.
func TestByteRot(t *testing.T) {
	t.Parallel()
	testSpoils(t, effort.Pick(128, 256, 24, 2), func(rng *rand.Rand) byte {
		for {
			if b := byte(rng.Uint32()); bits.OnesCount8(b) > 1 {
				return b
			}
		}
	})
}

func testSpoils(t *testing.T, step int, way func(*rand.Rand) byte) {
	skipInRace(t)
	const seed = 3
	rng := rand.New(rand.NewPCG(seed, 0))
	single := bits.OnesCount8(way(rng)) == 1
	for _, closed := range []bool{true, false} {
		name := map[bool]string{true: "closed", false: "died"}[closed]
		t.Run(name, func(t *testing.T) {
			image, h := tinyStore(t, closed)
			picked, every, blank := chooseSpoils(image, step, rng, func() byte { return way(rng) })
			ways := slices.Clone(picked)
			if single && effort.Now() == effort.Long {
				ways = every
				rotPart(t, ways)
			}
			r := spoilAll(t, image, h, ways, func(at int, bits byte) bool { return slices.Contains(picked[at], bits) })
			t.Logf("%d pages, %d of them of slabs never written; seed %d", len(image)/nvmap.PageBytes, blank, seed)
			r.log(t)
			if closed && r.sum(undone) > 0 {
				t.Error("a store that was closed lost something without saying so")
			}
			if whole := os.Getenv("NVKV_PART") == ""; whole && (r.sum(refused) == 0 || r.sum(reported) == 0 || r.sum(harmless) == 0 || single && !closed && r.sum(undone) == 0) {
				t.Error("one of these never happened: the test does not test")
			}
		})
	}
}

// withAbsence adds absence to the possible values of each key.
func withAbsence(ever map[string][]string) map[string][]string {
	out := map[string][]string{}
	for k, vs := range ever {
		out[k] = append([]string{absentValue}, vs...)
	}
	return out
}

// absentValue stands for absence among the possible values of a key.
const absentValue = "\x00absent"
