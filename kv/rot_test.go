package kv

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"nvkv/internal/effort"
	"nvkv/kv/internal/record"
	"nvkv/nvmap"
)

// rotCase is a record of one kind, written since the last checkpoint, whose bits are inverted after
// the store has died.
type rotCase struct {
	name   string
	before []change // in the checkpoint
	write  func(t testing.TB, db *DB)
	key    string
	holds  string // value of key then
	whole  bool   // a rotten record that deletes still deletes
}

// Offsets in a record: its number, and the length of its key.
const (
	atNumber = 4
	atKeyLen = 16
)

func rotCases() []rotCase {
	long := strings.Repeat("k", 1500) // in a page, as key and as value in runs
	value := strings.Repeat("v", 5000)
	puts := func(k, v string) func(testing.TB, *DB) {
		return func(t testing.TB, db *DB) { must(t, db.Put([]byte(k), []byte(v))) }
	}
	return []rotCase{
		{name: "put", write: puts("a", "new"), key: "a", holds: "new"},
		{name: "update", before: []change{put("a", "old")}, write: puts("a", "new"), key: "a", holds: "new"},
		{name: "empty", write: puts("", ""), key: "", holds: ""},
		{name: "value in runs", before: []change{put("a", "old")}, write: puts("a", value), key: "a", holds: value},
		{name: "key in runs", before: []change{put(long, "old")}, write: puts(long, value), key: long, holds: value},
		{name: "expiry", before: []change{put("a", "old")}, key: "a", holds: "new", write: func(t testing.TB, db *DB) {
			must(t, db.PutTTL([]byte("a"), []byte("new"), time.Hour))
		}},
		{name: "of several", before: []change{put("a", "old"), put("b", "old")}, key: "b", holds: "new", write: func(t testing.TB, db *DB) {
			must(t, commitChanges(db, []change{put("a", "new"), put("b", "new")}, false))
		}},
		{name: "tombstone", before: []change{put("a", "old")}, key: "a", holds: absentValue, whole: true, write: func(t testing.TB, db *DB) {
			must(t, db.Delete([]byte("a")))
		}},
		{name: "tombstone of a key in runs", before: []change{put(long, "old")}, key: long, holds: absentValue, whole: true, write: func(t testing.TB, db *DB) {
			must(t, db.Delete([]byte(long)))
		}},
		{name: "range", before: []change{put("a", "old"), put("b", "old")}, key: "b", holds: absentValue, whole: true, write: func(t testing.TB, db *DB) {
			must(t, db.DeleteRange([]byte("a"), []byte("c")))
		}},
		{name: "open range", before: []change{put("a", "old")}, key: "a", holds: absentValue, whole: true, write: func(t testing.TB, db *DB) {
			must(t, db.DeleteRange(nil, nil))
		}},
	}
}

// newest returns the offset and the size of the newest record of a store.
func newest(t testing.TB, db *DB) (o nvmap.Off, size int) {
	t.Helper()
	var best record.Record
	for _, s := range db.r.Marked(0) {
		for i := range s.Slots {
			var rec record.Record
			at := s.Off + nvmap.Off(i*s.SlotBytes)
			if db.readRecord(at, &rec) != nil {
				continue
			}
			if n := rec.Number; n > best.Number || n == best.Number && rec.Ordinal > best.Ordinal {
				best = rec
			}
		}
	}
	if best.Size == 0 {
		t.Fatal("no record")
	}
	return best.Off, best.Size
}

// die writes the record of a case and one more commit. It returns the remaining image, and the
// place of the record.
func (c *rotCase) die(t testing.TB) (image []byte, o nvmap.Off, size int) {
	t.Helper()
	m := newRotMedium(t, 4<<20)
	db, err := OpenDevice(m, rotOptions())
	must(t, err)
	if c.before != nil {
		must(t, commitChanges(db, c.before, false))
	}
	must(t, db.Checkpoint(context.Background()))
	c.write(t, db)
	o, size = newest(t, db)
	must(t, db.Put([]byte("last"), []byte("word"))) // now the record's is not the highest
	abandon(db)
	return m.bytes(t), o, size
}

// holding returns the value of a key, or why it cannot be read.
func holding(db *DB, key string) (string, error) {
	v, err := db.Get([]byte(key))
	if errors.Is(err, ErrNotFound) {
		return absentValue, nil
	}
	return string(v), err
}

// issues returns what Check finds.
func issues(t testing.TB, db *DB) (found []CheckIssue) {
	t.Helper()
	must(t, db.Check(context.Background(), func(i CheckIssue) { found = append(found, i) }))
	return found
}

// judgeRotten says what is wrong with the store's treatment of an inverted bit in the record at o.
func (c *rotCase) judgeRotten(t testing.TB, m *rotMedium, o nvmap.Off, opt *Options) error {
	db, err := OpenDevice(m, opt)
	if err != nil {
		return err
	}
	defer abandon(db)
	named := false
	for _, i := range issues(t, db) {
		if named = nvmap.Off(i.Off) == o; named {
			break
		}
	}
	got, err := holding(db, c.key)
	var corrupt *CorruptError
	switch {
	case !named:
		return errors.New("Check does not name it")
	case c.whole && (err != nil || got != c.holds):
		return fmt.Errorf("holds %.20q, %v", got, err)
	case c.whole:
		return nil
	case !errors.As(err, &corrupt) || nvmap.Off(corrupt.Off) != o:
		return fmt.Errorf("Get: %.20q, %v, which does not name %#x", got, err, o)
	case opt.ReadOnly:
		return nil
	}
	// The key can be written again.
	if err := db.Put([]byte(c.key), []byte("again")); err != nil {
		return err
	}
	if got, err := holding(db, c.key); err != nil || got != "again" {
		return fmt.Errorf("written again, holds %.20q, %v", got, err)
	}
	return nil
}

// TestI18_OneByteFromPassing inverts every bit, and several bits of each byte, of a record of each
// kind in a store that died. The store reports each, and never returns the earlier value of the
// key: not if it is opened read-only, and not if its next process dies as well. Without I18 it
// returns the earlier value and reports nothing.
func TestI18_OneByteFromPassing(t *testing.T) {
	skipInRace(t)
	for _, c := range rotCases() {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			image, o, size := c.die(t)
			m := newRotMedium(t, 4<<20)
			m.hold(t, image)
			rng := rand.New(rand.NewPCG(61, 1))
			for at := 0; at < size; at += effort.Pick(7, 7, 1, 1) {
				place := int(o) + at
				for _, wrong := range []byte{1, 2, 4, 8, 16, 32, 64, 128, 255, byte(1 + rng.IntN(255))} {
					must(t, firstErr(m.restore(), m.spoil(place, wrong)))
					readOnly := rotOptions()
					readOnly.ReadOnly = true
					for i, opt := range []*Options{readOnly, rotOptions(), rotOptions()} {
						if i == 2 && !c.whole {
							must(t, firstErr(m.restore(), m.spoil(place, wrong), openAndAbandon(m)))
						}
						if err := c.judgeRotten(t, m, o, opt); err != nil {
							t.Fatalf("byte %d, bits %08b, opening %d: %v", at, wrong, i+1, err)
						}
					}
				}
			}
			must(t, firstErr(m.restore(), m.spoil(int(o)+atKeyLen, 1)))
			if !switches(t) {
				return
			}
			without := rotOptions()
			without.broken = ruleI18
			if err := c.judgeRotten(t, m, o, without); err == nil {
				t.Error("without I18 nothing is wrong: the test does not test it")
			}
		})
	}
}

// openAndAbandon opens a store, which replays, and drops it.
func openAndAbandon(m *rotMedium) error {
	db, err := OpenDevice(m, rotOptions())
	if err == nil {
		abandon(db)
	}
	return err
}

// TestI18_RunsOfRottenRecords: the next recovery has to find the same byte, so the runs that hold
// the key of a rotten record are not reused before a checkpoint.
func TestI18_RunsOfRottenRecords(t *testing.T) {
	skipInRace(t)
	for _, c := range rotCases() {
		t.Run(c.name, func(t *testing.T) {
			image, o, _ := c.die(t)
			m := newRotMedium(t, 4<<20)
			m.hold(t, image)
			must(t, m.spoil(int(o)+atNumber, 1))
			db, err := OpenDevice(m, rotOptions())
			must(t, err)
			for i := range 20 {
				must(t, db.Put(fmt.Appendf(nil, "more%d", i), make([]byte, 6000)))
			}
			for _, issue := range issues(t, db) {
				if issue.Structure != rottenRecord && nvmap.Off(issue.Off) != o {
					t.Errorf("beside it: %v", issue)
				}
			}
			abandon(db)
			m.image = m.bytes(t) // with the wrong byte
			if err := c.judgeRotten(t, m, o, rotOptions()); err != nil {
				t.Errorf("after others wrote: %v", err)
			}
			db, err = OpenDevice(m, rotOptions())
			must(t, err)
			must(t, firstErr(db.Delete([]byte(c.key)), db.Checkpoint(context.Background()), db.Checkpoint(context.Background())))
			for _, issue := range issues(t, db) {
				if issue.Msg != "met by recovery" {
					t.Errorf("after the key was deleted: %v", issue)
				}
			}
			abandon(db)
		})
	}
}

// TestI18_DecidedAndAlone: a record about which an opening has decided, and which is the only one
// since the checkpoint, is found even if its number looks like an old one.
func TestI18_DecidedAndAlone(t *testing.T) {
	skipInRace(t)
	m := newRotMedium(t, 4<<20)
	db, err := OpenDevice(m, rotOptions())
	must(t, err)
	for i := range 3 {
		must(t, db.Put([]byte("a"), fmt.Append(nil, i)))
	}
	must(t, db.Checkpoint(context.Background()))
	must(t, db.Put([]byte("a"), []byte("new")))
	o, _ := newest(t, db)
	abandon(db)
	must(t, openAndAbandon(m)) // it decides, and writes nothing
	m.hold(t, m.bytes(t))
	for bits := 1; bits < 256; bits++ { // the lowest byte of 4, to lower and higher numbers
		must(t, firstErr(m.restore(), m.spoil(int(o)+atNumber, byte(bits))))
		c := rotCase{key: "a", holds: "new"}
		if err := c.judgeRotten(t, m, o, rotOptions()); err != nil {
			t.Fatalf("number %d: %v", 4^bits, err)
		}
	}
}

// TestI18_RemainsOfOthers: bytes of an earlier owner of the medium, or of an earlier carving of a
// slab, may be one byte from passing by chance. The test makes such bytes.
func TestI18_RemainsOfOthers(t *testing.T) {
	skipInRace(t)
	m := newRotMedium(t, 4<<20)
	db, err := OpenDevice(m, rotOptions())
	must(t, err)
	must(t, firstErr(db.Put([]byte("a"), []byte("1")), db.Put([]byte("b"), []byte("1")), db.Put([]byte("c"), []byte("1"))))
	o, _ := newest(t, db)
	d, _ := db.r.Describe(o)
	b := bytes.Clone(db.bytesAt(o, d.SlotBytes))
	seed := db.seed
	abandon(db)
	m.hold(t, m.bytes(t))
	// A slot behind the last one that was written, and the slots behind it.
	at := o + nvmap.Off(2*d.SlotBytes)
	makeRecord := func(carve uint32, key byte) []byte {
		r := bytes.Clone(b)
		binary.LittleEndian.PutUint64(r[atNumber:], uint64(record.MakeNumber(1, 2)))
		r[record.HeaderBytes] = key
		var rec record.Record
		rec.Parse(r)
		rec.Seal(r, record.BodySum(r[record.HeaderBytes:rec.Size]), seed, carve, at)
		return r
	}
	for _, test := range []struct {
		name   string
		behind byte // content of the slots behind it
		taken  bool
	}{
		{"of others", 0xa5, false},
		{"on a blank medium", 0, true},
	} {
		must(t, m.restore())
		r := makeRecord(d.Carve, 'x')
		r[record.HeaderBytes] ^= 4
		must(t, m.Write(at, r))
		must(t, m.Write(at+nvmap.Off(d.SlotBytes), bytes.Repeat([]byte{test.behind}, d.SlotBytes)))
		db, err := OpenDevice(m, rotOptions())
		must(t, err)
		_, err = db.Get([]byte("x"))
		if taken := errors.Is(err, ErrCorrupt); taken != test.taken || len(issues(t, db)) > 0 != test.taken {
			t.Errorf("%s: Get: %v, Check: %v", test.name, err, issues(t, db))
		}
		abandon(db)
	}
	// The same for an earlier carving: it passes with that carving's number, and with a changed
	// byte it would pass with the current one.
	must(t, m.restore())
	s := suspect{off: at, end: at + nvmap.Off(d.SlotBytes), bytes: d.SlotBytes, carve: d.Carve + 3}
	s.class, _ = db.r.ClassFor(d.SlotBytes)
	must(t, m.Write(at, makeRecord(d.Carve, 'x')))
	if db, err = OpenDevice(m, rotOptions()); err != nil {
		t.Fatal(err)
	}
	defer abandon(db)
	if !db.remains(s) {
		t.Error("a record of an earlier carving is taken for this one's")
	}
	if s.carve = d.Carve + 1; !db.remains(s) {
		t.Error("a record of the carving before is taken for this one's")
	}
}

// TestI18_NothingElseIsTaken: a slot that is one byte from a record that does not count, or no
// longer counts, is ignored. It may have been torn.
func TestI18_NothingElseIsTaken(t *testing.T) {
	skipInRace(t)
	tests := map[string]func(t testing.TB, db *DB) (o nvmap.Off, size int){
		"superseded": func(t testing.TB, db *DB) (o nvmap.Off, size int) {
			must(t, db.Put([]byte("a"), []byte("1")))
			o, size = newest(t, db)
			must(t, firstErr(db.Put([]byte("a"), []byte("2")), db.Put([]byte("z"), nil)))
			return o, size
		},
		"deleted": func(t testing.TB, db *DB) (o nvmap.Off, size int) {
			must(t, db.Put([]byte("a"), []byte("1")))
			o, size = newest(t, db)
			must(t, firstErr(db.Delete([]byte("a")), db.Put([]byte("z"), nil)))
			return o, size
		},
		"in a deleted range": func(t testing.TB, db *DB) (o nvmap.Off, size int) {
			must(t, db.Put([]byte("a"), []byte("1")))
			o, size = newest(t, db)
			must(t, firstErr(db.DeleteRange([]byte("a"), []byte("b")), db.Put([]byte("z"), nil)))
			return o, size
		},
		"the last": func(t testing.TB, db *DB) (nvmap.Off, int) {
			must(t, db.Put([]byte("z"), []byte("1")))
			return newest(t, db)
		},
	}
	for name, write := range tests {
		t.Run(name, func(t *testing.T) {
			m := newRotMedium(t, 4<<20)
			db, err := OpenDevice(m, rotOptions())
			must(t, err)
			must(t, firstErr(db.Put([]byte("b"), nil), db.Checkpoint(context.Background())))
			o, size := write(t, db)
			abandon(db)
			m.hold(t, m.bytes(t))
			for bit := range 8 * size {
				must(t, firstErr(m.restore(), m.spoil(int(o)+bit/8, 1<<(bit%8))))
				db, err := OpenDevice(m, rotOptions())
				must(t, err)
				if found := issues(t, db); len(found) > 0 {
					t.Fatalf("bit %d of byte %d: %v", bit%8, bit/8, found)
				}
				abandon(db)
			}
		})
	}
}

// TestRotInRandomStores does random operations like the crash suite. From time to time it takes the
// medium as a dead process would leave it, and spoils bytes that a recovery reads: slots of slabs
// that were written since the checkpoint. No key returns a value that it does not have, unless the
// last operation changed it.
func TestRotInRandomStores(t *testing.T) {
	skipInRace(t)
	seeds, stores, spoils := effort.Pick[uint64](2, 4, 4, 24), effort.Pick(4, 3, 12, 40), effort.Pick(60, 40, 60, 150)
	var counts [verdicts]atomic.Int64
	t.Run("seeds", func(t *testing.T) {
		for seed := range seeds {
			t.Run(fmt.Sprint(seed), func(t *testing.T) {
				t.Parallel()
				c := newCrasher(6100 + seed)
				c.quiet, c.images = seed%4 == 1, []int{1}
				s, err := c.start()
				must(t, err)
				defer func() { must(t, s.end()) }()
				m := newRotMedium(t, crashMediumBytes)
				var before model // at the last commit
				for range stores {
					for range 1 + c.rng.IntN(40) {
						acked, number := s.acked, s.db.visible
						must(t, s.step())
						if s.db.visible != number { // else there was nothing to do
							before = acked
						}
					}
					h := &rotHistory{together: -1, may: may(before, s.acked)}
					image := make([]byte, s.dev.Size())
					must(t, s.dev.Read(0, image))
					m.hold(t, image)
					slots := writtenSlots(t, m)
					for range spoils {
						if len(slots) == 0 {
							break
						}
						slot := slots[c.rng.IntN(len(slots))]
						at, bits := int(slot.off)+c.rng.IntN(slot.bytes), byte(1)<<c.rng.IntN(8)
						if c.rng.IntN(3) == 0 {
							bits = byte(1 + c.rng.IntN(255))
						}
						v, _, err := m.judge(at, bits, h, false)
						if err != nil {
							t.Fatalf("seed %d, %08b turned over at %#x: %v", c.seed, bits, at, err)
						}
						counts[v].Add(1)
					}
					must(t, m.restore())
				}
			})
		}
	})
	t.Logf("%d stores, %d times not opened, %d times named, %d times the last operation undone, %d times harmless",
		int(seeds)*stores, counts[refused].Load(), counts[reported].Load(), counts[undone].Load(), counts[harmless].Load())
	if counts[reported].Load() == 0 || counts[harmless].Load() == 0 {
		t.Error("the test does not test")
	}
}

// may returns the possible values of each key: its current value, and before it the previous one.
func may(was, now model) map[string][]string {
	held := func(m model, k string) string {
		if v, ok := m[k]; ok {
			return v
		}
		return absentValue
	}
	out := map[string][]string{}
	for _, k := range crashKeys {
		out[k] = []string{held(was, k), held(now, k)}
		if out[k][0] == out[k][1] {
			out[k] = out[k][1:]
		}
	}
	return out
}

// writtenSlots returns the slots that a recovery of a medium reads and that are not empty.
func writtenSlots(t testing.TB, m *rotMedium) (slots []suspect) {
	t.Helper()
	o := rotOptions()
	o.ReadOnly = true
	db, err := OpenDevice(m, o)
	must(t, err)
	defer abandon(db)
	for _, s := range db.r.Marked(db.checkpoints.base.interval) {
		for i := range s.Slots {
			at := s.Off + nvmap.Off(i*s.SlotBytes)
			if b := db.bytesAt(at, record.HeaderBytes); record.NumberOf(b) != 0 {
				slots = append(slots, suspect{off: at, bytes: s.SlotBytes})
			}
		}
	}
	return slots
}
