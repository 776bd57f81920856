package kv

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"nvkv/internal/effort"
	"nvkv/nvmap"
)

// Bad input: a file that is no store, is a damaged one, or belongs to another program gets an error
// that says so, or correct service. It never causes a panic or wrong data.

// tellsWhy says whether err is an error that opening bad input may return.
func tellsWhy(err error) bool {
	return errors.Is(err, ErrCorrupt) || errors.Is(err, ErrNotStore) || errors.Is(err, ErrVersion)
}

func TestOpenNoStore(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	random := make([]byte, 100_000)
	for i := range random {
		random[i] = byte(rng.Uint32())
	}
	text := []byte(strings.Repeat("There is no store in this file.\n", 4000))
	cases := map[string][]byte{
		"random": random, "random page": random[:4096], "random odd": random[:12345], "one byte": {1}, "seven bytes": []byte("1234567"),
		"text": text, "short text": text[:32], "zeros then text": append(make([]byte, 30000), text...),
	}
	for name, b := range cases {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(testDir(t), "s")
			if err := os.WriteFile(path, b, 0o600); err != nil {
				t.Fatal(err)
			}
			for _, o := range []*Options{nil, {ReadOnly: true}} {
				db, err := Open(path, o)
				if err == nil {
					db.Close()
				}
				if !errors.Is(err, ErrNotStore) || !strings.Contains(err.Error(), path) {
					t.Errorf("options %v: %v", o, err)
				}
			}
			if now, err := os.ReadFile(path); err != nil || !bytes.Equal(now, b) {
				t.Errorf("the file was changed, %v", err)
			}
		})
	}
}

func TestOpenPaths(t *testing.T) {
	dir := testDir(t)
	if _, err := Open(dir, nil); err == nil || !strings.Contains(err.Error(), dir) {
		t.Errorf("a directory: %v", err)
	}
	if _, err := Open(filepath.Join(dir, "no", "such"), nil); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no directory: %v", err)
	}
	if _, err := Open("", nil); err == nil {
		t.Error("the empty path opened")
	}
	if _, err := Open(filepath.Join(dir, "absent"), &Options{ReadOnly: true}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("absent and read-only: %v", err)
	}
	if _, err := os.Stat(filepath.Join(dir, "absent")); err == nil {
		t.Error("a read-only opening created a file")
	}
	empty := filepath.Join(dir, "empty")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	db := openTest(t, empty, nil) // an empty file becomes a store
	if err := db.Put([]byte("k"), []byte("v")); err != nil {
		t.Error(err)
	}
}

// smallStore returns the bytes of a store, its contents, and every value that a key ever had. It
// was closed, or it died with records since a checkpoint.
func smallStore(t testing.TB, closed bool) (image []byte, m model, ever map[string][]string) {
	t.Helper()
	path := filepath.Join(testDir(t), "s")
	db, err := Open(path, &Options{SlabBytes: 4096})
	if err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(7, 7))
	m, ever = model{}, map[string][]string{}
	for n := range 600 {
		k := fmt.Sprintf("key%03d", rng.IntN(150))
		if n%50 == 0 {
			k = strings.Repeat("long", 300) + k
		}
		v := fmt.Sprintf("%d:%s", n, strings.Repeat("v", rng.IntN(100)))
		if n%40 == 0 {
			v += strings.Repeat("w", 6000)
		}
		if n%7 == 0 {
			if err := db.Delete([]byte(k)); err != nil {
				t.Fatal(err)
			}
			delete(m, k)
			continue
		}
		if err := db.Put([]byte(k), []byte(v)); err != nil {
			t.Fatal(err)
		}
		m[k] = v
		ever[k] = append(ever[k], v)
		if n == 300 {
			if err := db.Checkpoint(context.Background()); err != nil {
				t.Fatal(err)
			}
		}
	}
	if closed {
		err = db.Close()
	} else {
		abandon(db)
	}
	if err != nil {
		t.Fatal(err)
	}
	if image, err = os.ReadFile(path); err != nil {
		t.Fatal(err)
	}
	return image, m, ever
}

// openImage opens the bytes of a store in memory.
func openImage(t testing.TB, image []byte) (*DB, error) {
	t.Helper()
	dev := nvmap.NewMem(32 << 20)
	if err := dev.Grow(int64(len(image))); err != nil {
		t.Fatal(err)
	}
	if err := dev.Write(0, image); err != nil {
		t.Fatal(err)
	}
	return OpenDevice(dev, &Options{SlabBytes: 4096})
}

// TestTruncated cuts a store at every page.
func TestTruncated(t *testing.T) {
	skipInRace(t)
	t.Parallel()
	for _, closed := range []bool{true, false} {
		image, m, _ := smallStore(t, closed)
		refused := 0
		for size := 0; size < len(image); size += nvmap.PageBytes {
			db, err := openImage(t, image[:size])
			switch {
			case size == 0:
				if err != nil {
					t.Errorf("empty: %v", err)
				}
			case err == nil:
				if got, err := contents(db); err != nil || difference(got, m) != "" {
					t.Errorf("cut at %d: it opened, %v, %s", size, err, difference(got, m))
				}
			case !tellsWhy(err):
				t.Errorf("cut at %d: %v", size, err)
			default:
				refused++
			}
			if db != nil {
				abandon(db)
			}
		}
		t.Logf("closed=%v: %d of %d cuts refused", closed, refused, len(image)/nvmap.PageBytes)
	}
}

const lockPathEnv = "NVKV_LOCK_PATH"

// lockChild opens a store that another process has open, and prints the result and what it reads.
func lockChild(path string) {
	for _, o := range []*Options{nil, {ReadOnly: true}} {
		db, err := Open(path, o)
		switch {
		case err == nil:
			v, err := db.Get([]byte("k"))
			fmt.Println("opened", string(v), errors.Join(err, db.Close()))
		case errors.Is(err, ErrLocked):
			fmt.Println("locked")
		default:
			fmt.Println(err)
		}
	}
}

func fromChild(t *testing.T, path string) string {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), lockPathEnv+"="+path)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("child: %v: %s", err, out)
	}
	return string(out)
}

func TestLocked(t *testing.T) {
	for _, device := range []string{"", "file"} {
		path := filepath.Join(testDir(t), "s")
		db := openTest(t, path, &Options{Device: device})
		if err := db.Put([]byte("k"), []byte("v")); err != nil {
			t.Fatal(err)
		}
		for _, o := range []*Options{{Device: device}, {Device: device, ReadOnly: true}} {
			if _, err := Open(path, o); !errors.Is(err, ErrLocked) || !strings.Contains(err.Error(), path) {
				t.Errorf("device %q: opened twice in one process, read-only %v: %v", device, o.ReadOnly, err)
			}
		}
		if got := fromChild(t, path); got != "locked\nlocked\n" {
			t.Errorf("device %q, beside a writer: %s", device, got)
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
		if got := fromChild(t, path); got != "opened v <nil>\nopened v <nil>\n" {
			t.Errorf("device %q, after Close: %s", device, got)
		}
		r := openTest(t, path, &Options{Device: device, ReadOnly: true})
		if got := fromChild(t, path); got != "locked\nopened v <nil>\n" {
			t.Errorf("device %q, beside a reader: %s", device, got)
		}
		if v, err := r.Get([]byte("k")); err != nil || string(v) != "v" {
			t.Errorf("Get = %q, %v", v, err)
		}
	}
}

// TestReadOnly reads a store that died, several times at once, from a file without write
// permission, and checks that the file does not change.
func TestReadOnly(t *testing.T) {
	image, m, _ := smallStore(t, false)
	path := filepath.Join(testDir(t), "s")
	if err := os.WriteFile(path, image, 0o400); err != nil {
		t.Fatal(err)
	}
	var dbs []*DB
	for range 3 {
		dbs = append(dbs, openTest(t, path, &Options{ReadOnly: true}))
	}
	for _, db := range dbs {
		m.compare(t, db)
		refused := map[string]error{
			"Put": db.Put([]byte("k"), nil), "Delete": db.Delete([]byte("key001")),
			"Write": db.Write(batchOf([]change{{key: "a"}})), "Checkpoint": db.Checkpoint(context.Background()),
		}
		for name, err := range refused {
			if !errors.Is(err, ErrReadOnly) {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
	for _, db := range dbs {
		mustCheck(t, db)
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if now, err := os.ReadFile(path); err != nil || !bytes.Equal(now, image) {
		t.Errorf("reading changed the file, %v", err)
	}
	if os.Getuid() == 0 {
		t.Log("root may write any file: that opening it for writing fails is not tested")
		return
	}
	if _, err := Open(path, nil); !errors.Is(err, os.ErrPermission) {
		t.Errorf("opened a file for writing that may not be written: %v", err)
	}
}

// TestR14_ReadOnlyWritesNothing opens a store that needs a recovery read-only, and counts the calls
// to the device.
func TestR14_ReadOnlyWritesNothing(t *testing.T) {
	image, m, _ := smallStore(t, false)
	withAndWithout(t, ruleR14, func(off rules) error {
		base := nvmap.NewMem(8 << 20)
		if err := firstErr(base.Grow(int64(len(image))), base.Write(0, image)); err != nil {
			return err
		}
		dev := nvmap.NewSim(base)
		db, err := OpenDevice(dev, &Options{ReadOnly: true, broken: off})
		if err != nil {
			return err
		}
		m.compare(t, db)
		if err := db.Close(); err != nil {
			return err
		}
		if w, f := dev.Writes(), dev.Fences(); w > 0 || f > 0 {
			return fmt.Errorf("%d writes and %d fences", w, f)
		}
		return nil
	})
}

// TestLimits stores the smallest and the largest keys and values, and reads them again.
func TestLimits(t *testing.T) {
	t.Parallel()
	path := filepath.Join(testDir(t), "s")
	db := openTest(t, path, nil)
	big := make([]byte, effort.Pick(8<<20, 8<<20, 64<<20, 64<<20))
	for i := range big {
		big[i] = byte(i * i >> 8)
	}
	m := model{
		"":                                  "",
		"empty value":                       "",
		strings.Repeat("k", MaxKeyBytes):    "the longest key",
		strings.Repeat("k", MaxKeyBytes-1):  "",
		strings.Repeat("\xff", MaxKeyBytes): strings.Repeat("v", 100_000),
		"big":                               string(big),
	}
	for k, v := range m {
		if err := db.Put([]byte(k), []byte(v)); err != nil {
			t.Fatalf("Put(%s, %d bytes): %v", shortKey(k), len(v), err)
		}
	}
	m.compare(t, db)
	long := make([]byte, MaxKeyBytes+1)
	if err := db.Put(long, nil); !errors.Is(err, ErrKeyTooLarge) {
		t.Errorf("Put of a key of %d bytes: %v", len(long), err)
	}
	b := db.NewBatch()
	b.Put([]byte("half a batch"), nil)
	b.Put(long, nil)
	if err := db.Write(b); !errors.Is(err, ErrKeyTooLarge) {
		t.Errorf("batch with a key of %d bytes: %v", len(long), err)
	}
	if _, err := db.Get(long); !errors.Is(err, ErrNotFound) {
		t.Errorf("Get of a key of %d bytes: %v", len(long), err)
	}
	if ok, err := db.Has(long); ok || err != nil {
		t.Errorf("Has of a key of %d bytes: %v, %v", len(long), ok, err)
	}
	abandon(db)
	db = openTest(t, path, nil) // from the records
	m.compare(t, db)
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	db = openTest(t, path, nil) // from the checkpoint
	m.compare(t, db)
	for k := range m {
		if err := db.Delete([]byte(k)); err != nil {
			t.Fatal(err)
		}
	}
	model{}.compare(t, db)
}
