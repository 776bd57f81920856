package kv

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"time"

	"nvkv/internal/hostile"
	"nvkv/nvmap"
)

// Store files made by an adversary, with right checksums: see package hostile. Every method is
// called on each. Whatever the bytes, it returns, in time and memory that are bounded by the size
// of the store, and an error names the wrong place. The values that such a store returns mean
// nothing.

// hostileShape is a store to be changed, with keys to read.
type hostileShape struct {
	name  string
	image *hostile.Image
	keys  []string
}

// hostileShapes makes the stores, once.
var hostileShapes = sync.OnceValues(func() ([]hostileShape, error) {
	var out []hostileShape
	for _, s := range []struct {
		name   string
		slab   int
		closed bool
		relax  bool
		fill   func(h *hostileFiller)
	}{
		{"mixed", 4096, true, false, fillMixed},
		{"died", 4096, false, false, fillMixed},
		{"long keys", 4096, true, false, fillLong},
		{"long keys, died", 16 << 10, false, false, fillLong},
		{"runs", 4096, true, false, fillRuns},
		{"runs, died", 8192, false, false, fillRuns},
		{"tall", 4096, true, false, fillTall},
		{"tall, died", 4096, false, false, fillTall},
		{"groups", 4096, false, true, fillMixed},
		{"ranges", 4096, false, false, fillRanges},
	} {
		h, err := newHostileFiller(s.slab, s.relax)
		if err != nil {
			return nil, err
		}
		s.fill(h)
		image, err := h.end(s.closed)
		if err == nil {
			var im *hostile.Image
			im, err = hostile.New(image)
			out = append(out, hostileShape{s.name, im, h.keys})
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", s.name, err)
		}
	}
	return out, nil
})

// hostileFiller fills a store.
type hostileFiller struct {
	dev  nvmap.Device
	db   *DB
	err  error
	keys []string
	rng  *rand.Rand
}

// hostileBytes is the largest size of a store.
const hostileBytes = 16 << 20

func newHostileFiller(slab int, relaxed bool) (*hostileFiller, error) {
	h := &hostileFiller{dev: nvmap.NewMem(hostileBytes), rng: rand.New(rand.NewPCG(5, 5))}
	o := &Options{SlabBytes: slab, EvacuateBytes: -1, noGroupTimer: true}
	if relaxed {
		o.Durability = Relaxed
	}
	var err error
	h.db, err = OpenDevice(keptDevice{h.dev}, o)
	return h, err
}

func (h *hostileFiller) note(err error) { h.err = firstErr(h.err, err) }

func (h *hostileFiller) put(k, v string) {
	h.note(h.db.Put([]byte(k), []byte(v)))
	h.keys = append(h.keys, k)
}

func (h *hostileFiller) checkpoint() { h.note(h.db.Checkpoint(context.Background())) }

// end returns the bytes of the store after it was closed or has died.
func (h *hostileFiller) end(closed bool) ([]byte, error) {
	if closed {
		h.note(h.db.Close())
	} else {
		h.note(h.db.Sync())
		abandon(h.db)
	}
	b := make([]byte, h.dev.Size())
	h.note(h.dev.Read(0, b))
	return b, firstErr(h.err, h.dev.Close())
}

func fillMixed(h *hostileFiller) {
	for n := range 400 {
		k := fmt.Sprintf("key%03d", h.rng.IntN(150))
		switch {
		case n%50 == 0:
			k = strings.Repeat("long", 300) + k
		case n%9 == 0:
			h.note(h.db.Delete([]byte(k)))
			continue
		case n%11 == 0:
			h.note(h.db.PutTTL([]byte(k), []byte("soon"), time.Hour))
			continue
		case n%31 == 0:
			b := h.db.NewBatch()
			for i := range 5 {
				b.Put([]byte(fmt.Sprint(k, i)), []byte("batch"))
			}
			h.note(h.db.Write(b))
			continue
		}
		h.put(k, strings.Repeat("v", h.rng.IntN(100)))
		if n == 250 {
			h.checkpoint()
		}
	}
}

func fillLong(h *hostileFiller) {
	for n := range 60 {
		k := fmt.Sprintf("%02d", n*7%60)
		h.put(strings.Repeat(k, 500+n*40), k)
		h.put(strings.Repeat("p", 1000)+strings.Repeat(k, 200), k)
		if n == 40 {
			h.checkpoint()
		}
	}
	h.put(strings.Repeat("most", MaxKeyBytes/4), "all the pages that a chain may have")
	for n := range 5 {
		h.note(h.db.Delete([]byte(h.keys[3*n])))
	}
}

func fillRuns(h *hostileFiller) {
	for n := range 40 {
		h.db.opt.listLevels = n % 4
		h.put(fmt.Sprint("run", n%30), strings.Repeat("r", 1500*n+2000))
		h.put(fmt.Sprint("small", n), "s")
		switch {
		case n%8 == 0:
			h.put(strings.Repeat(fmt.Sprint("bare", n), 200), strings.Repeat("b", 5000))
		case n == 25:
			h.checkpoint()
		case n%9 == 0:
			h.note(h.db.PutTTL([]byte(fmt.Sprint("run", n-3)), bytes.Repeat([]byte("t"), 9000), time.Hour))
		}
	}
	h.db.opt.listLevels = 0
	h.note(h.db.Delete([]byte("run7")))
}

func fillTall(h *hostileFiller) {
	for n := range 260 {
		k := fmt.Sprintf("%03d", n*37%260)
		h.put(k+strings.Repeat("tall", 200)+k, k) // few fit a page, separators are short
		h.put(strings.Repeat("tall", 200)+k, k)   // these have long separators
		if n == 200 {
			h.checkpoint()
		}
	}
}

func fillRanges(h *hostileFiller) {
	for n := range 300 {
		h.put(fmt.Sprintf("%03d", n), fmt.Sprint(n))
	}
	h.checkpoint()
	s, err := h.db.Begin(false)
	h.note(err)
	for n := range 10 {
		h.note(h.db.DeleteRange([]byte(fmt.Sprintf("%03d", 30*n)), []byte(fmt.Sprintf("%03d", 30*n+12))))
		h.put(fmt.Sprintf("%03d", 30*n+3), "again")
		if n == 5 {
			h.checkpoint()
		}
	}
	h.note(h.db.DeleteRange([]byte("290"), nil))
	h.note(s.Rollback())
}

// hostileSeed numbers a hostile file: the shape, then the change.
type hostileSeed uint64

// file makes the file and describes the change. nil: there is nothing to change.
func (seed hostileSeed) file() (image []byte, s *hostileShape, said string, err error) {
	shapes, err := hostileShapes()
	if err != nil {
		return nil, nil, "", err
	}
	s = &shapes[int(seed)%len(shapes)]
	rng := rand.New(rand.NewPCG(uint64(seed), 1))
	im := s.image.Clone()
	if n := len(hostile.Attacks()); rng.IntN(2) == 0 && !im.Attack(rng.IntN(n), rng) {
		im = s.image.Clone()
	} else if said = im.Said(); said != "" && rng.IntN(3) > 0 {
		return im.Bytes(), s, s.name + ": " + said, nil
	}
	im.Change(rng)
	return im.Bytes(), s, s.name + ": " + im.Said(), nil
}

// hostileUse calls every method on a store.
type hostileUse struct {
	shape *hostileShape
	image []byte
	rng   *rand.Rand
	dev   nvmap.Device
	err   error // an error that names no place
	where string
	trace func(string)
	errs  []error // errors that may outlive the store
}

// useHostile uses the file of a seed in every way.
func useHostile(seed hostileSeed, trace func(string)) (err error) {
	defer rescue(&err)
	image, shape, said, err := seed.file()
	if err != nil {
		return err
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	u := &hostileUse{shape: shape, image: image, rng: rand.New(rand.NewPCG(uint64(seed), 2)), trace: trace}
	u.all()
	runtime.ReadMemStats(&after)
	if n := after.TotalAlloc - before.TotalAlloc; u.err == nil && n > hostileAlloc {
		u.err = fmt.Errorf("%d bytes were allocated", n)
	}
	if u.err != nil {
		return fmt.Errorf("seed %d, %s: %s: %w", seed, said, u.where, u.err)
	}
	return nil
}

// hostileAlloc bounds the bytes that the use of a store of at most hostileBytes allocates in all.
// Some fifty walks read a few thousand pages and records each.
const hostileAlloc = 16 << 30

// hostileSteps is how many steps a cursor makes. Each step is bounded.
const hostileSteps = 2000

// tells checks that an error says what is wrong.
func (u *hostileUse) tells(what string, err error) {
	if err != nil {
		u.errs = append(u.errs, err)
	}
	var bad *CorruptError
	if errors.As(err, &bad) {
		return
	}
	for _, known := range []error{nil, ErrNotFound, ErrNotStore, ErrVersion, ErrFull, ErrKeyTooLarge, errRunsEnded, errEnough} {
		if errors.Is(err, known) {
			return
		}
	}
	if u.err == nil {
		u.err, u.where = fmt.Errorf("an error that names no place: %w", err), what
	}
}

// errEnough ends a callback.
var errEnough = errors.New("enough")

func (u *hostileUse) hold() {
	if u.dev != nil {
		_ = u.dev.Close()
	}
	u.dev = nvmap.NewMem(hostileBytes)
	u.tells("device", firstErr(u.dev.Grow(int64(len(u.image))), u.dev.Write(0, u.image)))
}

func (u *hostileUse) open(readOnly bool) *DB {
	o := &Options{ReadOnly: readOnly, EvacuateBytes: -1, noGroupTimer: true}
	var dev nvmap.Device = keptDevice{u.dev}
	switch u.rng.IntN(4) {
	case 0:
		dev = unmappedDevice{Device: dev}
	case 1:
		o.lateFrom = 1
	case 2:
		o.privateFrom, o.Durability = 2, Relaxed
	}
	u.step("open")
	db, err := OpenDevice(dev, o)
	u.tells("open", err)
	return db
}

func (u *hostileUse) step(what string) {
	if u.trace != nil {
		u.trace(what)
	}
}

func (u *hostileUse) all() {
	defer func() {
		_ = u.dev.Close()
		for _, err := range u.errs { // these must not alias unmapped memory
			_ = err.Error()
		}
	}()
	u.hold()
	if db := u.open(true); db != nil {
		for _, m := range hostileReads {
			u.call(db, m)
		}
		u.step("close read-only")
		u.tells("close read-only", db.Close())
	}
	u.salvage()
	for range 2 {
		db := u.open(false)
		if db == nil {
			break
		}
		both := append(append([]hostileMethod(nil), hostileReads...), hostileWrites...)
		u.rng.Shuffle(len(both), func(i, j int) { both[i], both[j] = both[j], both[i] })
		for _, m := range both {
			u.call(db, m)
		}
		u.step("close")
		u.tells("close", db.Close())
	}
	u.salvage()
}

func (u *hostileUse) salvage() {
	u.step("salvage")
	_, err := SalvageDevice(context.Background(), keptDevice{u.dev}, nil, func(r Rescued) error { return nil })
	u.tells("salvage", err)
}

func (u *hostileUse) call(db *DB, m hostileMethod) {
	u.step(m.name)
	u.tells(m.name, m.call(u, db))
}
