package kv

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"nvkv/alloc"
	"nvkv/kv/internal/btree"
	"nvkv/kv/internal/record"
	"nvkv/nvmap"
	"nvkv/nvmap/crashtest"
)

// Trace 12: a key too long for a leaf is updated after a checkpoint, and its old slot is reused. A
// replay compares with the key in the index, which therefore must not be stored in the old record.
func TestTrace12_LongKeysAreNotReferences(t *testing.T) {
	if _, err := tell(0, trace12_LongKeysAreNotReferences); err != nil {
		t.Error(err)
	}
}

func trace12_LongKeysAreNotReferences(s *session) error {
	k, l := strings.Repeat("k", 5000), strings.Repeat("k", 4999)+"l"
	return script(
		func() error { return s.do(put(k, "1"), put(l, "1")) },
		s.checkpoint,
		func() error { return s.do(put(k, "2"), put(l, "2"), put(wide("z"), ""), put("y", elsewhere)) },
		func() error { return s.doCrashing(false, put(k+"k", elsewhere)) },
		func() error { return s.doCrashing(false, del(l)) },
		func() error { return s.doCrashing(false, put(l, "3"), put(k, elsewhere)) },
	)
}

// A page of a value that the checkpoint reaches is freed and taken by the key of a tombstone. A
// recovery must no longer treat it as reached, because it would then free a live page with the
// tombstone (R10).
func TestR10_PageOfAValueTakenByATombstone(t *testing.T) {
	_, err := tell(0, func(s *session) error {
		k := strings.Repeat("k", 5000)
		return script(
			func() error { return s.do(put("v", elsewhere), put(k, "1")) },
			s.checkpoint,
			func() error { return s.do(put("v", "2")) },
			func() error { return s.doCrashing(false, del(k)) },
			func() error { return s.reopen(false) },
			s.checkpoint,
			s.checkpoint,
		)
	})
	if err != nil {
		t.Error(err)
	}
}

// Trace 13: a value holds images of records, like a stored backup. It is deleted, its pages are
// carved into slots, and the images lie where records begin. Their checksums are of another place.
// The broken form forges images for their own place: these count, so only the checksum keeps the
// others out.
func TestTrace13_BytesInsideValues(t *testing.T) {
	if _, err := tell(0, func(s *session) error { return insideValue(s, fromABackup) }); err != nil {
		t.Error(err)
	}
	_, err := tell(0, func(s *session) error { return insideValue(s, forged) })
	if err == nil {
		t.Fatal("forged records did not count: the trace does not test the checksum")
	}
	t.Logf("forged: %.300v", err)
}

// A4: the same with images for their own place, made for the current carving. If the next carving
// had the same number, they would count.
func TestA4_EveryCarvingHasItsNumber(t *testing.T) {
	tellTwice(t, ruleA4, func(s *session) error { return insideValue(s, ofThisCarving) })
}

// Trace 14: a put makes the store grow, and a crash takes the size word and leaves the rest. The
// next growth takes the same slabs as new ones and carves them under the same numbers, so the
// remains of the lost put would count. The fence after the size word rules such a crash out.
func TestTrace14_SizeWordBeforeTheFirstSlab(t *testing.T) {
	t.Parallel()
	if _, err := tell(0, traceA5_SizeWordBeforeTheFirstSlab); err != nil {
		t.Error(err)
	}
}

func traceA5_SizeWordBeforeTheFirstSlab(s *session) error {
	runs, fences, slabs, err := whatGrows()
	if err == nil {
		err = s.beforeGrowth()
	}
	if err != nil {
		return err
	}
	images := string(recordImages(s.db, runs, ofTheFirst)[:growing])
	s.atFences(func() {
		const limit = 200 // the size word is one line of many
		if fences--; fences == 0 {
			s.m.CrashThen(limit, func(m *crashtest.Medium) error {
				s := m.Session().(*session)
				if _, ok := s.acked["grower"]; ok || s.db.r.SlabCount() > slabs {
					return nil // the growth was not lost
				}
				return s.takeRuns(beyond(runs, s.db.r.SlabOf, slabs))
			})
		}
	})
	err = s.do(put("grower", images))
	s.m.Hook(nil)
	if err == nil && fences != 0 {
		err = errors.New("the store has not grown")
	}
	return firstErr(s.failure(), err)
}

// growing is the size of a value that does not fit the existing slabs, of which some are kept for a
// full store.
const growing = 60 * nvmap.PageBytes

func (s *session) beforeGrowth() error {
	err := s.do(put("victim", "1"))
	for i := 0; err == nil && i < 10; i++ {
		err = s.do(put(fmt.Sprint("filler", i), elsewhere))
	}
	return err
}

// whatGrows returns the place of the value that makes the store grow, how many fences its put
// takes, and how many slabs there were before.
func whatGrows() (runs []alloc.Extent, fences, slabs int, err error) {
	s, err := newCrasher(1).start()
	if err == nil {
		err = s.beforeGrowth()
	}
	if err == nil {
		slabs, fences = s.db.r.SlabCount(), -s.dev.Fences()
		err = s.do(put("grower", strings.Repeat("v", growing)))
	}
	if err == nil {
		fences += s.dev.Fences()
		runs, err = runsOf(s.db, "grower")
	}
	if err == nil && len(beyond(runs, s.db.r.SlabOf, slabs)) == 0 {
		err = errors.New("the put does not lie in what is new")
	}
	return runs, fences, slabs, firstErr(err, s.end())
}

// beyond returns the pages of runs in slab first or later ones.
func beyond(runs []alloc.Extent, slabOf func(nvmap.Off) int, first int) (out []alloc.Extent) {
	for _, e := range runs {
		for o := e.Off; o < e.Off+nvmap.Off(e.Bytes); o += nvmap.PageBytes {
			if slabOf(o) >= first {
				out = append(out, alloc.Extent{Off: o, Bytes: nvmap.PageBytes})
			}
		}
	}
	return out
}

// takeRuns puts wide records until they take one of the slabs of runs, and then crashes.
func (s *session) takeRuns(runs []alloc.Extent) error {
	for i := 0; !s.tookOne(runs); i++ {
		if err := s.do(put(wide(fmt.Sprint(i)), "")); err != nil {
			return err
		}
		if i == 400 {
			return errors.New("the slabs were never taken")
		}
	}
	return s.reopen(false)
}

// tookOne says whether a slab of runs is carved into slots of wide records.
func (s *session) tookOne(runs []alloc.Extent) bool {
	for _, e := range runs {
		for o := e.Off; o < e.Off+nvmap.Off(e.Bytes); o += nvmap.PageBytes {
			if _, size, ok := s.db.r.Carve(o, alloc.KindRecord); ok && size == 1024 {
				return true
			}
		}
	}
	return false
}

// A seal returns the place and the carve number for which a record image at o is sealed, in pages
// of this carving.
type seal func(o nvmap.Off, carve uint32) (nvmap.Off, uint32)

func fromABackup(o nvmap.Off, carve uint32) (nvmap.Off, uint32) { return o + 1<<20, carve }

func ofThisCarving(o nvmap.Off, carve uint32) (nvmap.Off, uint32) { return o, carve }

// ofTheFirst is for slabs that do not exist yet.
func ofTheFirst(o nvmap.Off, _ uint32) (nvmap.Off, uint32) { return o, 1 }

// forged is for pages that are carved for runs once more, then into slots.
func forged(o nvmap.Off, carve uint32) (nvmap.Off, uint32) { return o, carve + 2 }

// insideValue stores pages of record images as a value, frees them, and lets some of their slabs be
// carved into slots of the images' size.
func insideValue(s *session, as seal) error {
	const pages = 40
	var runs []alloc.Extent
	err := script(
		func() error { return s.do(put("victim", "1"), put("v", strings.Repeat("v", pages*nvmap.PageBytes))) },
		func() (err error) {
			runs, err = runsOf(s.db, "v")
			return err
		},
		func() error {
			images := recordImages(s.db, runs, as)
			return s.do(del("v"), put("v", string(images)))
		},
		func() error {
			again, err := runsOf(s.db, "v")
			if err == nil && !slices.Equal(again, runs) {
				err = fmt.Errorf("the value lies at %x, not at %x", again, runs)
			}
			return err
		},
		func() error { return s.do(del("v")) },
		func() error { return s.reopen(false) }, // slabs are taken from the lowest again
	)
	// Wide records take free slabs until they get one of those.
	for i := 0; err == nil && !s.tookOne(runs); i++ {
		if err = s.do(put(wide(fmt.Sprint(i)), "")); err == nil && i == 400 {
			err = errors.New("the slabs were never taken")
		}
	}
	if err != nil {
		return err
	}
	s.crash(s.c.images[0])
	return s.err
}

// runsOf returns the runs of a key's value.
func runsOf(db *DB, key string) ([]alloc.Extent, error) {
	if err := db.ix.Find([]byte(key), &db.way); err != nil {
		return nil, err
	}
	var rec record.Record
	if err := db.readRecord(btree.RefOff(db.ix.Old(&db.way)), &rec); err != nil {
		return nil, err
	}
	l, err := db.runs(&rec)
	return l.Extents, err
}

// recordImages fills runs with records victim=2, for slots of 1 KiB. Their numbers are of the next
// opening and higher than those that it will write.
func recordImages(db *DB, runs []alloc.Extent, as seal) (out []byte) {
	for _, e := range runs {
		for o := e.Off; o < e.Off+nvmap.Off(e.Bytes); o += 1024 {
			carve, _, _ := db.r.Carve(o&^(nvmap.PageBytes-1), alloc.KindRun)
			at, number := as(o, carve)
			img := victimImage(db, at, number, uint64(1000+len(out)))
			out = append(append(out, img...), make([]byte, 1024-len(img))...)
		}
	}
	return out
}

func victimImage(db *DB, at nvmap.Off, carve uint32, counter uint64) []byte {
	b := &Batch{}
	b.Put([]byte("victim"), []byte(strings.Repeat("2", 900)))
	es, _ := b.entries(nil, time.Now().UnixNano())
	e := &es[0]
	if err := db.prepare(e); err != nil {
		panic(err)
	}
	e.off = at
	return imageOf(db, e, carve, counter)
}

// imageOf returns a record of a transaction of one, sealed for a place and a carving.
func imageOf(db *DB, e *entry, carve uint32, counter uint64) []byte {
	img := append([]byte(nil), e.image[record.MaxHeaderBytes-record.HeaderBytes:]...)
	rec := record.Record{Number: record.MakeNumber(db.run+1, counter), Kind: record.KindPut, KeyLen: len(e.key), ValLen: len(e.value())}
	rec.PutHeader(img)
	rec.Seal(img, e.sum, db.seed, carve, e.off)
	return img
}
