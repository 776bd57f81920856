package kv

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/bits"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"nvkv/internal/effort"
	"nvkv/nvmap"
)

// Inverted bits on the medium. Each bit is inverted in a closed store, which is then opened, read
// as a whole, checked and written to. The tests cover all bytes that an opening reads and all that
// later calls rely on.
//
// The oracle accepts three outcomes. The store does not open and names the damaged place. Or every
// key that cannot be read returns an error with the place. Or everything is read correctly. For the
// very last commit of a store that died, nothing shows whether it was fenced, so an inverted bit in
// it may undo it as a whole. Nothing else is ever passed over (I18).

// rotMedium is memory in which a test inverts bits. restore undoes what the store and the test
// wrote into it.
type rotMedium struct {
	nvmap.Device
	image []byte

	mu      sync.Mutex
	touched map[nvmap.PageID]bool // pages that may differ from image
}

func newRotMedium(t testing.TB, maxBytes int64) *rotMedium {
	t.Helper()
	dev := nvmap.NewMem(maxBytes)
	t.Cleanup(func() { _ = dev.Close() })
	return &rotMedium{Device: dev, touched: map[nvmap.PageID]bool{}}
}

// Close keeps the medium for the next opening.
func (m *rotMedium) Close() error { return nil }

func (m *rotMedium) Write(off nvmap.Off, p []byte) error {
	m.touch(off, int64(len(p)))
	return m.Device.Write(off, p)
}

func (m *rotMedium) Discard(off nvmap.Off, n int64) error {
	m.touch(off, n)
	return m.Device.Discard(off, n)
}

func (m *rotMedium) touch(off nvmap.Off, n int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for at := off &^ (nvmap.PageBytes - 1); at < off+nvmap.Off(n); at += nvmap.PageBytes {
		m.touched[at.Page()] = true
	}
}

// hold makes image the content that restore brings back.
func (m *rotMedium) hold(t testing.TB, image []byte) {
	t.Helper()
	must(t, m.Grow(int64(len(image))))
	must(t, m.Device.Write(0, image))
	m.image = image
	clear(m.touched)
}

// restore undoes all writes and inversions.
func (m *rotMedium) restore() error {
	for page := range m.touched {
		want := make([]byte, nvmap.PageBytes)
		if at := int(page.Off()); at < len(m.image) {
			copy(want, m.image[at:])
		}
		if err := m.Device.Write(page.Off(), want); err != nil {
			return err
		}
	}
	clear(m.touched)
	return nil
}

// spoil inverts bits of one byte.
func (m *rotMedium) spoil(at int, bits byte) error {
	return m.Write(nvmap.Off(at), []byte{m.image[at] ^ bits})
}

// bytes returns the content of the medium.
func (m *rotMedium) bytes(t testing.TB) []byte {
	t.Helper()
	all := make([]byte, m.Size())
	must(t, m.Read(0, all))
	return all
}

// rotHistory makes changes and records which values each key may have: the last one of may is its
// current value. A key that the last commit changed also has its previous value.
type rotHistory struct {
	db       *DB
	may      map[string][]string
	together int // keys that the last commit changed; -1: unknown, several commits
}

func (h *rotHistory) do(t testing.TB, changes ...change) {
	t.Helper()
	must(t, commitChanges(h.db, changes, false))
	h.note(changes)
}

func (h *rotHistory) note(changes []change) {
	h.settle()
	now := model{}
	for k, values := range h.may {
		if v := values[len(values)-1]; v != absentValue {
			now[k] = v
		}
	}
	next := now.with(changes)
	for _, k := range slices.Compact(slices.Sorted(slices.Values(slices.Concat(now.keys(), next.keys())))) {
		if h.may[k] == nil {
			h.may[k] = []string{absentValue}
		}
		v, there := next[k]
		if !there {
			v = absentValue
		}
		if before := h.may[k]; before[len(before)-1] != v {
			h.may[k] = append(before, v)
			h.together++
		}
	}
}

// settle declares that no change so far can be lost.
func (h *rotHistory) settle() {
	for k, values := range h.may {
		h.may[k] = values[len(values)-1:]
	}
	h.together = 0
}

// rotOptions keep a store small, and keep the background from writing to its device.
func rotOptions() *Options { return &Options{SlabBytes: 4096, EvacuateBytes: -1} }

// tinyStore returns the bytes of a store of a few dozen slabs with every structure of the format:
// records of several classes, in runs, with keys in runs and in overflow pages, with an expiry,
// tombstones, a deleted range, transactions of several records. It was closed, or it died with
// records since a checkpoint.
func tinyStore(t testing.TB, closed bool) ([]byte, *rotHistory) {
	t.Helper()
	m := newRotMedium(t, 4<<20)
	h := tinyStoreOn(t, m, closed)
	return m.bytes(t), h
}

// tinyStoreOn makes a tiny store on a device.
func tinyStoreOn(t testing.TB, m nvmap.Device, closed bool) *rotHistory {
	t.Helper()
	db, err := OpenDevice(m, rotOptions())
	must(t, err)
	h := &rotHistory{db: db, may: map[string][]string{}}
	value := func(n, size int) string { return fmt.Sprint(n, ":") + strings.Repeat("v", size) }
	for i := range 12 {
		h.do(t, put(fmt.Sprintf("small%02d", i), value(i, 20)))
	}
	for i := range 4 {
		h.do(t, put(fmt.Sprintf("large%02d", i), value(i, 700)))
	}
	longKey := strings.Repeat("long", 300)
	h.do(t, put(longKey, value(1, 10)))
	h.do(t, put("runs", value(1, 5000)), put(wide("w"), ""))
	must(t, db.PutTTL([]byte("expires"), []byte("in an hour"), time.Hour))
	h.note([]change{put("expires", "in an hour")})
	h.do(t, del("small00"))
	must(t, db.Checkpoint(context.Background()))
	h.do(t, put("small01", value(2, 20)))
	h.do(t, put("large01", value(2, 700)))
	h.do(t, put("small02", value(2, 30)), put("large02", value(2, 700)), del("small03"), put("new", value(1, 40)))
	h.do(t, delRange("small04", "small07"))
	h.do(t, put("runs", value(2, 6000)))
	h.do(t, del("large03"))
	h.do(t, put("small05", value(3, 20)), del("small08"))
	if closed {
		must(t, db.Close())
		h.settle()
	} else {
		abandon(db)
	}
	return h
}

// damaged collects the reports of a damaged store.
type damaged struct {
	places []uint64 // where it is damaged
	stale  int      // keys that answered their previous value
}

// tell records an error that damage excuses. It returns any other error, and one that names no
// place.
func (d *damaged) tell(err error) error {
	var ours *CorruptError
	switch {
	case err == nil:
	case errors.As(err, &ours):
		d.places = append(d.places, ours.Off)
	case errors.Is(err, ErrNotStore), errors.Is(err, ErrVersion):
		d.places = append(d.places, 0) // the head or a superblock, as the error says
	default:
		return err
	}
	return nil
}

// get reads all keys. Each must return one of its possible values or an error about damage.
func (d *damaged) get(db *DB, may map[string][]string) error {
	for k, values := range may {
		got := absentValue
		v, err := db.Get([]byte(k))
		switch {
		case err == nil:
			got = string(v)
		case !errors.Is(err, ErrNotFound):
			if err := d.tell(err); err != nil {
				return fmt.Errorf("Get(%s): %w", shortKey(k), err)
			}
			continue
		}
		if !slices.Contains(values, got) {
			return fmt.Errorf("Get(%s) = %.40q, which it never was", shortKey(k), got)
		}
		if got != values[len(values)-1] {
			d.stale++
		}
	}
	return nil
}

// iterate reads in order. It must return no value that a key never had.
func (d *damaged) iterate(db *DB, may map[string][]string) error {
	tx, err := db.Begin(false)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }()
	for k, v := range tx.All(nil, nil) {
		if !slices.Contains(may[string(k)], string(v)) {
			return fmt.Errorf("iteration: %s = %.40q, which it never was", shortKey(string(k)), v)
		}
	}
	if err := d.tell(tx.Err()); err != nil {
		return fmt.Errorf("iteration: %w", err)
	}
	return nil
}

// check records the findings of Check.
func (d *damaged) check(db *DB) error {
	err := db.Check(context.Background(), func(i CheckIssue) { d.places = append(d.places, i.Off) })
	if err := d.tell(err); err != nil {
		return fmt.Errorf("check: %w", err)
	}
	return nil
}

// write puts and deletes. The store may refuse it, but its correct keys must stay correct.
func (d *damaged) write(db *DB) error {
	for i := range 8 {
		k := fmt.Appendf(nil, "written%d", i)
		if err := d.tell(firstErr(db.Put(k, make([]byte, 200*i)), db.Delete(k))); err != nil {
			return fmt.Errorf("write: %w", err)
		}
	}
	err := db.Checkpoint(context.Background())
	if err := d.tell(err); err != nil && !errors.Is(err, ErrFailed) {
		return fmt.Errorf("checkpoint: %w", err)
	}
	return nil
}

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

// bigStore is a store that is too large for a second copy of its values: the number and the version
// of a key determine its value.
type bigStore struct {
	image   []byte
	keys    []bigState
	changed int    // key that the last commit changed; none if the store was closed
	was     uint32 // its previous version
}

// bigState is the state of a key. Versions count from 1, and 0 is absence.
type bigState struct {
	now  uint32
	last uint32 // its newest version so far
}

func bigKey(i int) []byte { return fmt.Appendf(nil, "key%08d", i) }

// bigValue returns version v of key i.
func bigValue(i int, v uint32) []byte {
	size := 40 + int((uint64(i)*2654435761+uint64(v)*40503)>>4%220)
	switch {
	case i%500 == 0:
		size = 60_000
	case i%50 == 0:
		size = 3000
	}
	p := make([]byte, 0, size+24)
	p = fmt.Appendf(p, "%d:%d:", i, v)
	return append(p, bytes.Repeat([]byte{byte(i + int(v))}, size)...)
}

// newBigStore writes n keys, updates and deletes some, takes a checkpoint, does the same again, and
// is closed or dies.
func newBigStore(t testing.TB, m *rotMedium, n int, closed bool) *bigStore {
	t.Helper()
	s := &bigStore{keys: make([]bigState, n)}
	db, err := OpenDevice(m, &Options{EvacuateBytes: -1, CheckpointBytes: 1 << 40})
	must(t, err)
	rng := rand.New(rand.NewPCG(uint64(n), 1))
	set := func(i int) {
		k := &s.keys[i]
		s.changed, s.was = i, k.now
		k.last++
		k.now = k.last
		must(t, db.Put(bigKey(i), bigValue(i, k.now)))
	}
	for _, i := range rng.Perm(n) {
		set(i)
	}
	change := func(n int) {
		for range n {
			if i := rng.IntN(len(s.keys)); rng.IntN(4) > 0 {
				set(i)
			} else if s.keys[i].now > 0 {
				must(t, db.Delete(bigKey(i)))
				s.changed, s.was = i, s.keys[i].now
				s.keys[i].now = 0
			}
		}
	}
	change(n / 4)
	must(t, db.Checkpoint(context.Background()))
	change(n / 8)
	if closed {
		must(t, db.Close())
		s.changed = -1
	} else {
		abandon(db)
	}
	s.image = m.bytes(t)
	return s
}

// judge says whether value is possible for key i; nil means absent.
func (s *bigStore) judge(i int, value []byte) (stale bool, err error) {
	is := func(v uint32) bool {
		if v == 0 || value == nil {
			return v == 0 && value == nil
		}
		return bytes.Equal(value, bigValue(i, v))
	}
	switch {
	case is(s.keys[i].now):
		return false, nil
	case i == s.changed && is(s.was):
		return true, nil
	}
	return false, fmt.Errorf("%s = %.40q, which it does not hold", bigKey(i), value)
}

// read reads the store in order, and by single keys the part that this did not reach.
func (s *bigStore) read(db *DB, d *damaged) error {
	tx, err := db.Begin(false)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }()
	i := 0
	answer := func(value []byte) error {
		stale, err := s.judge(i, value)
		if stale {
			d.stale++
		}
		i++
		return err
	}
	for k, v := range tx.All(nil, nil) {
		for ; i < len(s.keys) && !bytes.Equal(k, bigKey(i)); err = firstErr(err, answer(nil)) {
		}
		if i == len(s.keys) {
			return fmt.Errorf("iteration: %.40q, or it is out of order", k)
		}
		if err = firstErr(err, answer(v)); err != nil {
			return fmt.Errorf("iteration: %w", err)
		}
	}
	broken := tx.Err()
	if err := d.tell(broken); err != nil {
		return fmt.Errorf("iteration: %w", err)
	}
	for i < len(s.keys) && err == nil {
		if broken == nil {
			err = answer(nil)
			continue
		}
		v, e := db.Get(bigKey(i))
		switch {
		case e == nil:
			err = answer(v)
		case errors.Is(e, ErrNotFound):
			err = answer(nil)
		default:
			err = d.tell(e)
			i++
		}
	}
	return err
}

// spoil is rotMedium.judge for a large store.
func (s *bigStore) spoil(m *rotMedium, at int, bits byte) (verdict, error) {
	var d damaged
	if err := firstErr(m.restore(), m.spoil(at, bits)); err != nil {
		return 0, err
	}
	var db *DB
	err := guarded(func() (err error) { db, err = OpenDevice(m, rotOptions()); return err })
	if err != nil {
		return refused, d.tell(err)
	}
	defer abandon(db)
	if err := db.View(func(*Tx) error { return nil }); err != nil { // the replay is part of the opening (I17)
		return refused, d.tell(err)
	}
	err = guarded(func() error { return firstErr(s.read(db, &d), d.check(db), d.write(db)) })
	switch {
	case err != nil:
		return 0, err
	case len(d.places) > 0:
		return reported, nil
	case d.stale > 0:
		return undone, nil
	}
	return harmless, nil
}

// TestBitFlipsLarge inverts random bits of a large store: in the full form 40 in a store of some 10
// MB, in the long form 400 in one of 300,000 records.
func TestBitFlipsLarge(t *testing.T) {
	skipInRace(t)
	t.Parallel()
	records, flips := effort.Pick(5_000, 5_000, 20_000, 300_000), effort.Pick(20, 20, 40, 400)
	const seed = 4
	for _, closed := range []bool{true, false} {
		t.Run(map[bool]string{true: "closed", false: "died"}[closed], func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 0))
			m := newRotMedium(t, 512<<20)
			s := newBigStore(t, m, records, closed)
			m.hold(t, s.image)
			var counts [verdicts]int
			for range flips {
				at, bits := rng.IntN(len(s.image)), byte(1)<<rng.IntN(8)
				v, err := s.spoil(m, at, bits)
				if err != nil {
					t.Fatalf("seed %d, flip at %#x of %08b: %v", seed, at, bits, err)
				}
				counts[v]++
			}
			t.Logf("%d records, %d bytes, seed %d: %d flips: %d not opened, %d reported, %d undone, %d harmless", records, len(s.image), seed,
				flips, counts[refused], counts[reported], counts[undone], counts[harmless])
			if counts[reported] == 0 || closed && counts[undone] > 0 {
				t.Error("nothing was reported, or a store that was closed lost something without saying so")
			}
		})
	}
}
