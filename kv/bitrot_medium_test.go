package kv

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

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
