package kv

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"nvkv/internal/effort"
	"nvkv/nvmap"
)

// fullShape describes the contents of a store and how it is filled.
type fullShape struct {
	slab  int
	bytes int64
	keys  string // "tiny", "digits", "shared" or "long"
	value int    // largest length of a value
	same  bool   // all values have that length
	opt   Options
}

func (s fullShape) String() string {
	return fmt.Sprintf("%d KiB in slabs of %d, %s keys, values up to %d (same %v), durability %v",
		s.bytes>>10, s.slab, s.keys, s.value, s.same, s.opt.Durability)
}

// fullRun is a store that is full most of the time, with a model of it.
type fullRun struct {
	t       *testing.T
	rng     *rand.Rand
	shape   fullShape
	dev     nvmap.Device
	db      *DB
	m       model
	order   []string // keys of m, and some deleted ones
	now     time.Time
	lengths int
	most    int      // keys that a full store of this size deletes in one transaction
	log     []string // operations, for the report of a failure
	did     map[string]int
}

// TestFullStoreStaysUsable fills stores of many shapes and gives space back in every way, again and
// again, with reopening and kills in between. Calls that give space back are never refused, refused
// calls change nothing, and the emptied store takes as much as before.
func TestFullStoreStaysUsable(t *testing.T) {
	skipInRace(t)
	seeds := effort.Pick[uint64](1, 4, 40, 200)
	first := uint64(0)
	if s := os.Getenv("NVKV_FULL_SEED"); s != "" {
		first, _ = strconv.ParseUint(s, 10, 64)
		seeds = 1
	}
	for seed := first; seed < first+seeds; seed++ {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 12))
			f := &fullRun{t: t, rng: rng, shape: randomShape(rng), m: model{}, did: map[string]int{}}
			f.run(effort.Pick(2, 2, 3, 4))
		})
	}
}

func randomShape(rng *rand.Rand) fullShape {
	s := fullShape{
		slab:  []int{4 << 10, 16 << 10, 64 << 10, 64 << 10, 256 << 10, 1 << 20}[rng.IntN(6)],
		keys:  []string{"tiny", "digits", "shared", "long"}[rng.IntN(4)],
		value: []int{0, 0, 30, 500, 4000, 40_000}[rng.IntN(6)],
		same:  rng.IntN(2) == 0,
	}
	s.bytes = int64([]int{1, 2, 8, 8, 12}[rng.IntN(5)]) << 20
	if effort.Now() < effort.Full {
		s.slab, s.bytes = min(s.slab, 64<<10), 2<<20
	}
	s.bytes = max(s.bytes, 24*int64(s.slab))
	if rng.IntN(3) == 0 {
		s.opt.Durability = Relaxed
	}
	s.opt.SlabBytes, s.opt.EvacuateBytes, s.opt.noGroupTimer = s.slab, -1, true
	if rng.IntN(3) == 0 {
		s.opt.CheckpointBytes = 256 << 10
	}
	if rng.IntN(4) == 0 {
		s.opt.privateFrom = 20
	}
	return s
}

func (f *fullRun) run(rounds int) {
	f.t.Log(f.shape)
	f.dev = keptDevice{nvmap.NewMem(f.shape.bytes)}
	f.now = time.Unix(1_000_000, 0)
	f.lengths = 8 // of long keys
	if f.shape.bytes < 8<<20 {
		f.lengths = 6
	}
	f.most = int(min(fullDeletes, f.shape.bytes/(8<<20)*fullDeletes+1))
	f.open()
	defer func() {
		if f.t.Failed() {
			f.t.Logf("last: %s", strings.Join(f.log[max(0, len(f.log)-12):], "; "))
		}
		abandon(f.db)
	}()
	first := 0
	for round := range rounds {
		f.fill()
		n := len(f.m)
		if round == 0 {
			first = n
		}
		f.t.Logf("round %d: %d keys", round, n)
		f.check()
		for range 1 + f.rng.IntN(3) {
			for range 2 + f.rng.IntN(12) {
				f.step()
			}
			f.check()
			f.fill()
		}
		f.empty()
		f.check()
	}
	f.fill()
	f.t.Logf("last: %d keys; %v", len(f.m), f.did)
	if f.shape.same && f.shape.keys != "long" && len(f.m) < first*9/10 {
		f.t.Errorf("%d keys fit, %d in the first round", len(f.m), first)
	}
	f.check()
}

func (f *fullRun) open() {
	o := f.shape.opt
	o.Clock = func() time.Time { return f.now }
	db, err := OpenDevice(f.dev, &o)
	if err != nil {
		f.t.Fatalf("opening: %v; last: %s", err, strings.Join(f.log[max(0, len(f.log)-12):], "; "))
	}
	f.db = db
}

func (f *fullRun) note(format string, args ...any) {
	f.log = append(f.log, fmt.Sprintf(format, args...))
	f.did[strings.SplitN(f.log[len(f.log)-1], " ", 2)[0]]++
}

// must fails the test on an error of a call that must not be refused.
func (f *fullRun) must(err error) {
	f.t.Helper()
	if err != nil {
		f.t.Fatalf("%s: %v (%d keys)", f.log[len(f.log)-1], err, len(f.m))
	}
}

// may says whether the call succeeded; false means that the store is full.
func (f *fullRun) may(err error) bool {
	f.t.Helper()
	if err == nil {
		return true
	}
	if !full(err) {
		f.t.Fatalf("%s: %v", f.log[len(f.log)-1], err)
	}
	f.did["refused"]++
	return false
}

func (f *fullRun) check() {
	f.t.Helper()
	f.m.compare(f.t, f.db)
	mustCheck(f.t, f.db)
	if f.t.Failed() {
		f.t.FailNow()
	}
}

func (f *fullRun) newKey() string {
	for {
		var k string
		switch f.shape.keys {
		case "tiny":
			var b [3]byte
			b[0], b[1], b[2] = byte(f.rng.Uint32()), byte(f.rng.Uint32()), byte(f.rng.Uint32())
			k = string(b[:])
		case "digits":
			k = fmt.Sprintf("%08d", f.rng.IntN(100_000_000))
		case "shared":
			k = strings.Repeat("s", 200+f.rng.IntN(2)) + fmt.Sprintf("%010d", f.rng.IntN(1<<30))
		default:
			k = fmt.Sprintf("%07d", f.rng.IntN(10_000_000)) + strings.Repeat("k", []int{1, 10, 300, 890, 950, 5000, 20000, 60000}[f.rng.IntN(f.lengths)])
		}
		if _, there := f.m[k]; !there {
			return k
		}
	}
}

var fullValue = strings.Repeat("value...", 10_000)

func (f *fullRun) newValue() string {
	if f.shape.same {
		return fullValue[:f.shape.value]
	}
	return fullValue[:f.rng.IntN(f.shape.value+1)]
}

// someKeys returns existing keys.
func (f *fullRun) someKeys(n int) (ks []string) {
	seen := map[string]bool{}
	for size := 0; len(ks) < n && len(f.order) > 0 && size < 64<<10; {
		i := f.rng.IntN(len(f.order))
		k := f.order[i]
		f.order[i] = f.order[len(f.order)-1]
		f.order = f.order[:len(f.order)-1]
		if _, there := f.m[k]; there && !seen[k] {
			seen[k] = true
			ks = append(ks, k)
			size += len(k)
		}
	}
	f.order = append(f.order, ks...)
	return ks
}

func (f *fullRun) set(k, v string) {
	if _, there := f.m[k]; !there {
		f.order = append(f.order, k)
	}
	f.m[k] = v
}

// fill puts keys until nothing more fits.
func (f *fullRun) fill() {
	for step := 256; step > 0; {
		b := f.db.NewBatch()
		added := model{}
		for range step {
			k, v := f.newKey(), f.newValue()
			if step == 1 && !f.shape.same && f.rng.IntN(2) == 0 {
				v = v[:len(v)/8]
			}
			added[k] = v
			b.Put([]byte(k), []byte(v))
		}
		f.note("fill %d", step)
		if !f.may(f.db.Write(b)) {
			step /= 4
			continue
		}
		for k, v := range added {
			f.set(k, v)
		}
	}
}

// empty deletes all keys, in one form.
func (f *fullRun) empty() {
	switch n := f.rng.IntN(4); n {
	case 0:
		f.note("emptying by one range")
		f.must(f.db.DeleteRange(nil, nil))
	default:
		for len(f.m) > 0 {
			some := f.someKeys([]int{1, 1, min(50, f.most), f.most}[n])
			f.note("emptying by form %d, %d of %d", n, len(some), len(f.m))
			f.must(f.deleteAs(n, some))
			f.gone(some)
		}
	}
	f.m, f.order = model{}, nil
}

func (f *fullRun) deleteAs(form int, ks []string) error {
	switch form {
	case 1:
		for _, k := range ks {
			if err := f.db.Delete([]byte(k)); err != nil {
				return err
			}
		}
		return nil
	case 2:
		return f.db.Update(func(tx *Tx) error {
			for _, k := range ks {
				if err := tx.Delete([]byte(k)); err != nil {
					return err
				}
			}
			return nil
		})
	}
	b := f.db.NewBatch()
	for _, k := range ks {
		b.Delete([]byte(k))
	}
	return f.db.Write(b)
}

func (f *fullRun) gone(ks []string) {
	for _, k := range ks {
		delete(f.m, k)
	}
}
