package kv

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"nvkv/internal/effort"
	"nvkv/nvmap"
)

// salvaged returns the results of Salvage for the bytes of a store.
func salvaged(t *testing.T, image []byte) (got model, strays map[string]bool, report SalvageReport, err error) {
	t.Helper()
	dev := nvmap.NewMem(32 << 20)
	defer dev.Close()
	if err := dev.Grow(int64(len(image))); err != nil {
		t.Fatal(err)
	}
	if err := dev.Write(0, image); err != nil {
		t.Fatal(err)
	}
	defer rescue(&err)
	got, strays = model{}, map[string]bool{}
	report, err = SalvageDevice(context.Background(), dev, nil, func(x Rescued) error {
		if _, twice := got[string(x.Key)]; twice {
			return fmt.Errorf("%s twice", shortKey(string(x.Key)))
		}
		got[string(x.Key)] = string(x.Value)
		strays[string(x.Key)] = x.Stray
		return nil
	})
	return got, strays, report, err
}

// TestSalvageWhole rescues everything from an intact store, and does not change its file.
func TestSalvageWhole(t *testing.T) {
	for _, closed := range []bool{true, false} {
		image, m, _ := smallStore(t, closed)
		got, _, report, err := salvaged(t, image)
		if err != nil || difference(got, m) != "" || report.Indexed != int64(len(m)) || len(report.Damage) > 0 {
			t.Errorf("closed=%v: %v, %s, %+v", closed, err, difference(got, m), report)
		}
		path := filepath.Join(testDir(t), "s")
		if err := os.WriteFile(path, image, 0o600); err != nil {
			t.Fatal(err)
		}
		n := 0
		if _, err := Salvage(context.Background(), path, nil, func(Rescued) error { n++; return nil }); err != nil || n != len(m) {
			t.Errorf("closed=%v: %d of %d records, %v", closed, n, len(m), err)
		}
		if now, err := os.ReadFile(path); err != nil || !bytes.Equal(now, image) {
			t.Errorf("closed=%v: salvaging changed the file, %v", closed, err)
		}
	}
}

// TestSalvageDamaged overwrites whole pages, one after the other, the head and superblocks among
// them. Every rescued value was once there, keys that the index names have their current value, and
// no page takes more keys with it than necessary.
func TestSalvageDamaged(t *testing.T) {
	skipInRace(t)
	t.Parallel()
	rng := rand.New(rand.NewPCG(5, 5))
	for _, closed := range []bool{true, false} {
		image, m, ever := smallStore(t, closed)
		used := len(bytes.TrimRight(image, "\x00"))
		least, whole := len(m), 0
		for at := 0; at < used; at += nvmap.PageBytes {
			bad := bytes.Clone(image)
			for i := range nvmap.PageBytes {
				bad[at+i] = byte(rng.Uint32())
			}
			got, strays, report, err := salvaged(t, bad)
			if err != nil {
				t.Fatalf("closed=%v, page at %#x: %v", closed, at, err)
			}
			for k, v := range got {
				if !slices.Contains(ever[k], v) {
					t.Errorf("closed=%v, page at %#x: %s = %.20q, which it never was", closed, at, shortKey(k), v)
				}
				if closed && !strays[k] && m[k] != v {
					t.Errorf("closed=%v, page at %#x: the index names %s = %.20q, and it is %.20q", closed, at, shortKey(k), v, m[k])
				}
			}
			kept := 0
			for k, v := range m {
				if got[k] == v {
					kept++
				}
			}
			least = min(least, kept)
			if kept < len(m)/2 {
				t.Logf("closed=%v, page at %#x: %d keys: %v", closed, at, kept, report.Damage[:min(3, len(report.Damage))])
			}
			if kept == len(m) {
				whole++
			} else if closed && len(report.Damage) == 0 { // else: as if never written
				t.Errorf("closed=%v, page at %#x: %d of %d keys and nothing said", closed, at, kept, len(m))
			}
		}
		t.Logf("closed=%v: of %d keys at least %d rescued with a page gone, all of them %d times in %d", closed, len(m), least, whole, used/nvmap.PageBytes)
		// One page of 4 KiB holds at most this many of the records, or describes a slab.
		if least < len(m)/3 {
			t.Errorf("only %d of %d keys rescued", least, len(m))
		}
	}
}

// TestSalvageWithoutBeginning: the head and all superblocks are gone, and with them the place of
// the index and the number of keys. The group header still identifies records. The report says that
// more keys may be lost.
func TestSalvageWithoutBeginning(t *testing.T) {
	image, m, ever := smallStore(t, true)
	clear(image[:64<<10])
	got, _, report, err := salvaged(t, image)
	if err != nil || !report.Unknown || report.Indexed != 0 || report.Stray != int64(len(got)) {
		t.Errorf("%v, %+v", err, report)
	}
	for k, v := range got {
		if !slices.Contains(ever[k], v) {
			t.Errorf("%s = %.20q, which it never was", shortKey(k), v)
		}
	}
	for k, v := range m {
		if got[k] != v {
			t.Errorf("%s = %.20q, want %.20q", shortKey(k), got[k], v)
		}
	}
}

// TestSalvageNothing: without a superblock and a group header no record can be recognized, and the
// error says so.
func TestSalvageNothing(t *testing.T) {
	image, _, _ := smallStore(t, true)
	clear(image[:64<<10])
	for at := 0; at < len(image); at += nvmap.PageBytes {
		if bytes.HasPrefix(image[at:], []byte("nvkvGRUP")) {
			image[at+20] ^= 1
		}
	}
	if _, _, _, err := salvaged(t, image); !errors.Is(err, ErrCorrupt) {
		t.Errorf("%v", err)
	}
	if _, _, _, err := salvaged(t, bytes.Repeat([]byte("x"), 100_000)); err == nil {
		t.Error("salvaged what never was a store")
	}
}

// TestSalvageCut: in a store whose end or a part of whose index is gone, each key is rescued or
// counted as lost.
func TestSalvageCut(t *testing.T) {
	skipInRace(t)
	image, m, _ := smallStore(t, true)
	lost := false
	for size := len(image) - 1; size > 5*nvmap.PageBytes; size -= 13 * nvmap.PageBytes {
		got, _, report, err := salvaged(t, image[:size])
		if err != nil {
			t.Fatalf("cut to %d bytes: %v", size, err)
		}
		if report.Unknown || int64(len(got))+report.Lost < int64(len(m)) || len(got) < len(m) && len(report.Damage) == 0 {
			t.Errorf("cut to %d bytes: %d of %d keys rescued, %+v", size, len(got), len(m), report)
		}
		lost = lost || report.Lost > 0
	}
	if !lost {
		t.Error("nothing was lost at any size")
	}
}

// TestSalvageEnds: an error of the callback ends Salvage.
func TestSalvageEnds(t *testing.T) {
	image, _, _ := smallStore(t, true)
	path := filepath.Join(testDir(t), "s")
	if err := os.WriteFile(path, image, 0o600); err != nil {
		t.Fatal(err)
	}
	boom := errors.New("boom")
	n := 0
	_, err := Salvage(context.Background(), path, nil, func(Rescued) error { n++; return boom })
	if n != 1 || !errors.Is(err, boom) {
		t.Errorf("%d calls, %v", n, err)
	}
}

// TestSalvageMends inverts every bit of a record of each kind, in a store that was closed and in
// one that died. The value is rescued and reported as mended.
func TestSalvageMends(t *testing.T) {
	skipInRace(t)
	for _, c := range rotCases() {
		for _, closed := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, closed=%v", c.name, closed), func(t *testing.T) {
				t.Parallel()
				image, o, size := c.die(t)
				if closed {
					m := newRotMedium(t, 4<<20)
					m.hold(t, image)
					db, err := OpenDevice(m, rotOptions())
					must(t, err)
					must(t, db.Close())
					image = m.bytes(t)
				}
				for bit := 0; bit < 8*size; bit += effort.Pick(13, 13, 3, 3) {
					bad := bytes.Clone(image)
					bad[int(o)+bit/8] ^= 1 << (bit % 8)
					got, _, report, err := salvaged(t, bad)
					must(t, err)
					want, there := c.holds, c.holds != absentValue
					if v, ok := got[c.key]; ok != there || there && v != want {
						t.Fatalf("bit %d of byte %d: %v %.20q; %+v", bit%8, bit/8, ok, v, report)
					}
					if there && (report.Mended != 1 || report.Lost != 0 || len(report.Damage) == 0) {
						t.Fatalf("bit %d of byte %d: %+v", bit%8, bit/8, report)
					}
				}
			})
		}
	}
}
