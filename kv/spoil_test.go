package kv

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"nvkv/internal/effort"
	"nvkv/nvmap"
)

// Lines of 64 bytes and sectors of 4 KiB of metadata that are zeroed, set to ones, or exchanged
// with the next, like on a medium that loses or misplaces them. The store on it is opened, read,
// checked, and used for long, with a model beside it. The oracle accepts: the store is refused,
// with the place; or every key that cannot be read returns an error with a place; or nothing is
// lost, whatever is done to the store afterwards. Nothing panics, hangs or takes unbounded memory.

// spoilKind is the new content of a stretch.
type spoilKind int

const (
	zeroed spoilKind = iota
	filled
	exchanged
	spoilKinds
)

func (k spoilKind) String() string { return [...]string{"zeroed", "filled", "exchanged"}[k] }

// stretchOf is a line or a sector of the metadata. last: the next one is no metadata.
type stretchOf struct {
	at, n int
	last  bool
}

// metadataStretches returns the lines and sectors of an image in which metadata lies:
// head, superblocks, groups, index pages, overflow pages and value blocks.
func metadataStretches(t testing.TB, image []byte) (out []stretchOf) {
	t.Helper()
	in := make([]bool, len(image)/nvmap.PageBytes)
	for page := range in {
		in[page] = tinyArea(page*nvmap.PageBytes) != areaSlabs
	}
	m := newRotMedium(t, 4<<20)
	m.hold(t, image)
	o := rotOptions()
	o.ReadOnly = true
	db, err := OpenDevice(m, o)
	must(t, err)
	for s := range db.r.Slabs() {
		if s.Kind == 2 || s.Kind == 3 { // index pages and value blocks
			for page := s.Off.Page(); page < (s.Off+4096).Page() && int(page) < len(in); page++ { // behind the end: pages in DRAM
				in[page] = true
			}
		}
	}
	abandon(db)
	for page, yes := range in {
		if !yes {
			continue
		}
		last := page+1 == len(in) || !in[page+1]
		out = append(out, stretchOf{page * nvmap.PageBytes, nvmap.PageBytes, last})
		for at := 0; at < nvmap.PageBytes; at += 64 {
			out = append(out, stretchOf{page*nvmap.PageBytes + at, 64, last && at == nvmap.PageBytes-64})
		}
	}
	return out
}

// spoilStretch spoils a stretch of the image on the medium. It returns false if nothing changes.
func (m *rotMedium) spoilStretch(s stretchOf, kind spoilKind) (bool, error) {
	if kind == exchanged && s.last {
		return false, nil
	}
	was := m.image[s.at : s.at+s.n]
	with := make([]byte, s.n)
	switch kind {
	case filled:
		with = bytes.Repeat([]byte{0xff}, s.n)
	case exchanged:
		with = m.image[s.at+s.n : s.at+2*s.n]
	}
	if bytes.Equal(was, with) {
		return false, nil
	}
	err := m.Write(nvmap.Off(s.at), with)
	if kind == exchanged {
		err = firstErr(err, m.Write(nvmap.Off(s.at+s.n), was))
	}
	return true, err
}

// spoiled is the use of a store with a spoiled stretch.
type spoiled struct {
	damaged
	m        *rotMedium
	db       *DB
	may      map[string][]string
	keys     []string
	rng      *rand.Rand
	n        int // numbers values
	together int
	refused  bool
}

// use checks a store on the medium with this many operations.
func (m *rotMedium) use(h *rotHistory, operations int) (s *spoiled, err error) {
	s = &spoiled{m: m, may: maps.Clone(h.may), together: h.together, rng: rand.New(rand.NewPCG(1, 1))}
	defer rescue(&err)
	s.keys = slices.Sorted(maps.Keys(s.may))
	for i := range 40 {
		s.keys = append(s.keys, fmt.Sprintf("more%02d", i))
	}
	if err := s.readOnly(); err != nil {
		return s, fmt.Errorf("read-only: %w", err)
	}
	if err := s.open(); err != nil || s.refused {
		return s, err
	}
	defer func() { abandon(s.db) }()
	if err := s.look(s.db, s.may); err != nil {
		return s, err
	}
	if err := s.decided(); err != nil {
		return s, err
	}
	for n := range operations {
		if err := s.operation(); err != nil || s.refused {
			return s, opErr(n, err)
		}
	}
	if err := s.reopen(); err != nil || s.refused {
		return s, err
	}
	return s, s.look(s.db, s.may)
}

func opErr(n int, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("operation %d: %w", n, err)
}

// decided records which state of its last commit a store that died is in.
func (s *spoiled) decided() error {
	if s.stale != 0 && s.together >= 0 && s.stale != s.together && len(s.places) == 0 {
		return fmt.Errorf("%d keys answered what they held before, of a commit that changed %d", s.stale, s.together)
	}
	if len(s.places) > 0 {
		return nil
	}
	for k, values := range s.may {
		if s.stale > 0 && len(values) > 1 {
			s.may[k] = values[:len(values)-1]
		}
		s.may[k] = s.may[k][len(s.may[k])-1:]
	}
	s.stale = 0
	return nil
}

func (s *spoiled) readOnly() error {
	o := rotOptions()
	o.ReadOnly = true
	db, err := OpenDevice(s.m, o)
	if err != nil {
		return s.tell(err)
	}
	defer abandon(db)
	d := damaged{}
	return firstErr(d.look(db, s.may), d.nothingWrong(s))
}

// nothingWrong returns an error if the results of the reads are not possible.
func (d *damaged) nothingWrong(s *spoiled) error {
	if d.stale != 0 && d.stale != s.together && s.together >= 0 && len(d.places) == 0 {
		return fmt.Errorf("%d keys answered what they held before", d.stale)
	}
	return nil
}

func (s *spoiled) open() error {
	db, err := OpenDevice(s.m, rotOptions())
	s.db = db
	if err != nil {
		s.refused = true
		return s.tell(err)
	}
	return nil
}

// reopen closes the store, or lets it die.
func (s *spoiled) reopen() error {
	var err error
	if s.rng.IntN(2) == 0 {
		err = s.told(s.db.Close())
	}
	abandon(s.db)
	return firstErr(err, s.open())
}

// told is tell for a write. It opens a failed store again.
func (s *spoiled) told(err error) error {
	if errors.Is(err, ErrFull) && !errors.Is(err, ErrFailed) {
		return nil
	}
	return s.tell(err)
}

func (s *spoiled) operation() error {
	switch r := s.rng.IntN(100); {
	case r < 50:
		return s.commit(s.change())
	case r < 70:
		return s.commit(s.change(), s.change(), s.change())
	case r < 73:
		from := s.rng.IntN(len(s.keys) - 3)
		return s.commit(delRange(s.keys[from], s.keys[from+2]))
	case r < 94:
		k := s.keys[s.rng.IntN(len(s.keys))]
		return s.get(s.db, map[string][]string{k: s.holdsNow(k)})
	case r < 98:
		if err := s.db.Checkpoint(context.Background()); err != nil {
			return firstErr(s.told(err), s.recoverFrom(err))
		}
		return nil
	}
	return s.reopen()
}

func (s *spoiled) holdsNow(k string) []string {
	if v, ok := s.may[k]; ok {
		return v
	}
	return []string{absentValue}
}

func (s *spoiled) change() change {
	k := s.keys[s.rng.IntN(len(s.keys))]
	if s.rng.IntN(3) == 0 {
		return del(k)
	}
	s.n++
	return put(k, fmt.Sprint(s.n, "!")+strings.Repeat("n", []int{10, 30, 30, 300, 5000}[s.rng.IntN(5)]))
}

// commit makes changes and records the possible values of their keys.
func (s *spoiled) commit(changes ...change) error {
	err := commitChanges(s.db, changes, false)
	now := map[string]string{}
	for _, ch := range changes {
		for _, k := range s.keys {
			switch {
			case ch.upTo != nil && k >= ch.key && k < *ch.upTo, ch.upTo == nil && ch.value == nil && k == ch.key:
				now[k] = absentValue
			case ch.upTo == nil && k == ch.key:
				now[k] = *ch.value
			}
		}
	}
	for k, v := range now {
		switch {
		case err == nil:
			s.may[k] = []string{v}
		case errors.Is(err, ErrFailed):
			s.may[k] = append(slices.Clone(s.holdsNow(k)), v)
		}
	}
	if err != nil {
		return firstErr(s.told(err), s.recoverFrom(err))
	}
	return nil
}

// recoverFrom opens a failed store again.
func (s *spoiled) recoverFrom(err error) error {
	if !errors.Is(err, ErrFailed) {
		return nil
	}
	abandon(s.db)
	return s.open()
}

// spoilSample returns that one in this many stretches is tried, and with how many operations.
func spoilSample() (one, operations int) {
	return effort.Pick(40, 20, 9, 1), effort.Pick(40, 60, 120, 4000)
}

// TestSpoiledMetadata does with lines and sectors what TestBitFlips does with bits.
func TestSpoiledMetadata(t *testing.T) {
	skipInRace(t)
	one, operations := spoilSample()
	for _, closed := range []bool{true, false} {
		t.Run(fmt.Sprint("closed=", closed), func(t *testing.T) {
			t.Parallel()
			image, h := tinyStore(t, closed)
			stretches := metadataStretches(t, image)
			var tried, opened, named atomic.Int64
			m := newRotMedium(t, 16<<20)
			m.hold(t, image)
			for i, s := range stretches {
				for kind := range spoilKinds {
					if s.n < nvmap.PageBytes && (i+int(kind))%one != 0 {
						continue
					}
					must(t, m.restore())
					changes, err := m.spoilStretch(s, kind)
					must(t, err)
					if !changes {
						continue
					}
					tried.Add(1)
					u, err := inBounds(func() (*spoiled, error) { return m.use(h, operations) })
					if err != nil {
						t.Errorf("%d bytes at %#x (%v) %v: %.1500v", s.n, s.at, tinyArea(s.at), kind, err)
						if os.Getenv("NVKV_ALL") == "" {
							return
						}
						continue
					}
					if !u.refused {
						opened.Add(1)
					}
					if len(u.places) > 0 {
						named.Add(1)
					}
				}
			}
			t.Logf("%d stretches spoiled: %d opened, %d named", tried.Load(), opened.Load(), named.Load())
		})
	}
}

// inBounds runs fn and reports if it does not end or takes much memory.
func inBounds(fn func() (*spoiled, error)) (s *spoiled, err error) {
	const most = 1 << 30
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	done := make(chan struct{})
	go func() {
		defer close(done)
		s, err = fn()
	}()
	select {
	case <-done:
	case <-time.After(3 * time.Minute):
		debug.SetTraceback("all")
		panic("it hangs")
	}
	runtime.ReadMemStats(&after)
	if n := after.TotalAlloc - before.TotalAlloc; err == nil && n > most {
		err = fmt.Errorf("%d bytes were allocated", n)
	}
	return s, err
}

// TestZeroedMaps zeroes each sector of the metadata of a store with slabs of the default size. The
// store then takes as much again as it held, and does not overwrite its old data.
func TestZeroedMaps(t *testing.T) {
	m := newRotMedium(t, 64<<20)
	o := Options{EvacuateBytes: -1}
	open := func() (*DB, error) { return OpenDevice(m, &o) }
	db, err := open()
	must(t, err)
	value := func(k string) []byte { return []byte(strings.Repeat(k, 30)) }
	fill := func(db *DB, prefix string) error {
		for i := range 4 {
			b := db.NewBatch()
			for j := range 500 {
				k := fmt.Sprint(prefix, i, j)
				b.Put([]byte(k), value(k))
			}
			if err := db.Write(b); err != nil {
				return err
			}
		}
		return nil
	}
	must(t, fill(db, "old"))
	must(t, db.Close())
	m.hold(t, m.bytes(t))
	const group, metadata = 64 << 10, 40 << 10
	opened, named := 0, 0
	for at := group; at < group+metadata; at += nvmap.PageBytes {
		must(t, m.restore())
		_, err := m.spoilStretch(stretchOf{at: at, n: nvmap.PageBytes}, zeroed)
		must(t, err)
		db, err := open()
		if errors.Is(err, ErrCorrupt) {
			continue
		}
		must(t, err)
		opened++
		must(t, fill(db, "new"))
		for i := range 4 {
			for j := range 500 {
				for _, prefix := range []string{"old", "new"} {
					k := fmt.Sprint(prefix, i, j)
					if v, err := db.Get([]byte(k)); err != nil || !bytes.Equal(v, value(k)) {
						t.Fatalf("zeroed at %#x: Get(%s): %.20q, %v", at, k, v, err)
					}
				}
			}
		}
		named += min(1, len(issues(t, db)))
		must(t, db.Close())
	}
	if opened == 0 || named == 0 {
		t.Errorf("%d stores opened, and Check named the damage of %d", opened, named)
	}
}
