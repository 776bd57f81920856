package kv

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"pgregory.net/rapid"

	"nvkv/nvmap"
)

// unmappedDevice is a device that the CPU cannot read in place. It fails in a given range.
type unmappedDevice struct {
	nvmap.Device
	bad *badRange // nil: none
}

// badRange is a range that cannot be read.
type badRange struct{ from, to nvmap.Off }

func (d unmappedDevice) Mapping() []byte { return nil }

func (d unmappedDevice) Info() nvmap.Info {
	info := d.Device.Info()
	info.Kind, info.Mapped = "unmapped("+info.Kind+")", false
	return info
}

func (d unmappedDevice) Read(off nvmap.Off, p []byte) error {
	if b := d.bad; b != nil && off < b.to && b.from < off+nvmap.Off(len(p)) {
		return &nvmap.FaultError{Off: max(off, b.from), Op: "read", Err: errInjected}
	}
	return d.Device.Read(off, p)
}

// ReadBatch makes the store read ahead.
func (d unmappedDevice) ReadBatch(reqs []nvmap.PageRead) error {
	var first error
	for i := range reqs {
		r := &reqs[i]
		r.Err = d.Read(r.Page.Off(), r.Buf)
		first = firstErr(first, r.Err)
	}
	return first
}

// TestRapidUnmapped is TestRapid on a device that is not mapped.
func TestRapidUnmapped(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) { testRapid(t, unmappedDevice{Device: nvmap.NewMem(8 << 20)}) })
}

// TestCrashUnmapped is TestCrashAtEveryFence on a device that is not mapped.
func TestCrashUnmapped(t *testing.T) {
	skipInRace(t)
	for seed := range uint64(2) {
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
			t.Parallel()
			c := newCrasher(200 + seed)
			c.unmapped = true
			c.quiet = seed%2 == 1
			c.ops[0] = 100
			if testing.Short() {
				c.ops[0] = 40
			}
			if err := runCrashes(c); err != nil {
				t.Fatal(err)
			}
			t.Logf("%d images", c.opened)
		})
	}
}

// TestUnmappedStore reads and writes values of all sizes, scans, and opens the
// store again.
func TestUnmappedStore(t *testing.T) {
	dev := unmappedDevice{Device: keptDevice{nvmap.NewMem(64 << 20)}}
	db, err := OpenDevice(dev, nil)
	if err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(3, 3))
	want := model{}
	for i := range 4000 {
		k, v := fmt.Sprintf("key%05d", rng.IntN(2000)), bytes.Repeat([]byte{byte(i)}, rng.IntN(300))
		if i%500 == 0 {
			v = bytes.Repeat([]byte{byte(i)}, 200_000)
		}
		if err := db.Put([]byte(k), v); err != nil {
			t.Fatal(err)
		}
		want[k] = string(v)
		if i == 2500 {
			if err := db.Checkpoint(context.Background()); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, cleanly := range []bool{false, true} {
		if err := firstErr(holds(db, want), clean(db)); err != nil {
			t.Fatal(err)
		}
		for k, v := range want {
			if got, err := db.Get([]byte(k)); err != nil || string(got) != v {
				t.Fatalf("Get(%s): %d bytes, %v; want %d", k, len(got), err, len(v))
			}
		}
		if cleanly {
			err = db.Close()
		} else {
			abandon(db)
		}
		if err != nil {
			t.Fatal(err)
		}
		if db, err = OpenDevice(dev, nil); err != nil {
			t.Fatal(err)
		}
	}
	if err := firstErr(holds(db, want), db.Close()); err != nil {
		t.Fatal(err)
	}
}

// TestUnmappedMediaFault reads a store with parts that cannot be read. The error names the place,
// other keys can be read, and a commit that meets such a part fails the store.
func TestUnmappedMediaFault(t *testing.T) {
	dev := unmappedDevice{Device: keptDevice{nvmap.NewMem(64 << 20)}, bad: &badRange{}}
	db, err := OpenDevice(dev, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 3000 {
		if err := db.Put(fmt.Appendf(nil, "key%05d", i), bytes.Repeat([]byte("v"), 100)); err != nil {
			t.Fatal(err)
		}
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if db, err = OpenDevice(dev, nil); err != nil {
		t.Fatal(err)
	}
	var at nvmap.Off
	if err := db.View(func(tx *Tx) error {
		rec, err := db.recordAt([]byte("key01000"), tx.root, tx.at)
		at = rec.Off
		return err
	}); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil { // drops the pages in DRAM
		t.Fatal(err)
	}
	if db, err = OpenDevice(dev, nil); err != nil {
		t.Fatal(err)
	}
	*dev.bad = badRange{at, at + 64}
	_, err = db.Get([]byte("key01000"))
	var fault *nvmap.FaultError
	if !errors.Is(err, ErrMediaFault) || !errors.As(err, &fault) || fault.Off < at.Page().Off() || fault.Off > at+64 {
		t.Errorf("reading the bad record at %#x: %v", at, err)
	}
	if _, err := db.Get([]byte("key02999")); err != nil {
		t.Errorf("another key: %v", err)
	}
	err = db.View(func(tx *Tx) error {
		for range tx.All([]byte("key00990"), nil) {
		}
		return tx.Err()
	})
	if !errors.Is(err, ErrMediaFault) {
		t.Errorf("scanning over it: %v", err)
	}
	*dev.bad = badRange{0, 1 << 40}
	if err := db.Put([]byte("key00001"), nil); !errors.Is(err, ErrFailed) || !errors.Is(err, ErrMediaFault) {
		t.Errorf("a put that cannot read the index: %v", err)
	}
	if err := db.Put([]byte("other"), nil); !errors.Is(err, ErrFailed) {
		t.Errorf("a put after it: %v", err)
	}
	*dev.bad = badRange{}
	if err := db.Close(); err != nil {
		t.Error(err)
	}
}
