package kv

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/iotest"

	"nvkv/nvmap"
)

func eachReaderDB(t *testing.T, fn func(t *testing.T, db *DB)) {
	for name, dev := range map[string]nvmap.Device{
		"mapped": nvmap.NewMem(64 << 20), "not mapped": unmappedDevice{Device: nvmap.NewMem(64 << 20)},
	} {
		t.Run(name, func(t *testing.T) {
			db, err := OpenDevice(dev, &Options{SlabBytes: 4096})
			must(t, err)
			defer func() { mustCheck(t, db); must(t, db.Close()) }()
			fn(t, db)
		})
	}
}

func patterned(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i*7 + i>>8 + i>>16)
	}
	return b
}

// A reader returns what Get returns, of values of every place, whatever calls ask for it, in
// read-only and in writable transactions.
func TestValueReader(t *testing.T) {
	eachReaderDB(t, func(t *testing.T, db *DB) {
		keys := []string{"k", strings.Repeat("l", 5000)}
		sizes := []int{0, 100, 3000, 5000, partBytes - 1, partBytes, partBytes + 1, 3*partBytes + 77}
		for _, key := range keys {
			for _, size := range sizes {
				want := patterned(size)
				must(t, db.Put([]byte(key), want))
				if size%2 == 0 { // a hole: later values lie in several extents
					must(t, db.Put(fmt.Append(nil, "hole", size), make([]byte, 9000)))
				}
				must(t, db.View(func(tx *Tx) error { readsAs(t, tx, key, want); return nil }))
				must(t, db.Update(func(tx *Tx) error {
					readsAs(t, tx, key, want)
					must(t, tx.Put([]byte(key), want[:size/2]))
					readsAs(t, tx, key, want[:size/2])
					must(t, tx.Delete([]byte(key)))
					_, err := tx.Reader([]byte(key))
					wantErr(t, "of a deleted key", err, ErrNotFound)
					return tx.Put([]byte(key), want)
				}))
			}
		}
		must(t, db.View(func(tx *Tx) error {
			_, err := tx.Reader([]byte("none"))
			wantErr(t, "of an absent key", err, ErrNotFound)
			return nil
		}))
	})
}

func readsAs(t *testing.T, tx *Tx, key string, want []byte) {
	t.Helper()
	r, err := tx.Reader([]byte(key))
	must(t, err)
	if r.Size() != int64(len(want)) {
		t.Fatalf("Size is %d, want %d", r.Size(), len(want))
	}
	var out bytes.Buffer
	if n, err := r.WriteTo(&out); err != nil || n != r.Size() || !bytes.Equal(out.Bytes(), want) {
		t.Fatalf("WriteTo of %d bytes: %d, %v", len(want), n, err)
	}
	_, err = r.Seek(0, io.SeekStart)
	must(t, err)
	if len(want) <= 3000 { // it reads byte by byte
		must(t, iotest.TestReader(r, want))
	}
	_, err = r.Seek(0, io.SeekStart)
	must(t, err)
	all, err := io.ReadAll(iotest.HalfReader(r))
	if must(t, err); !bytes.Equal(all, want) {
		t.Fatalf("ReadAll: %d bytes of %d", len(all), len(want))
	}
	rng := rand.New(rand.NewPCG(1, uint64(len(want))))
	for range 10 {
		off := rng.Int64N(int64(len(want) + 2))
		p := make([]byte, rng.IntN(len(want)+2))
		n, err := r.ReadAt(p, off)
		left := max(int64(len(want))-off, 0)
		wantN := int(min(left, int64(len(p))))
		if n != wantN || (err == io.EOF) != (wantN < len(p)) || err != nil && err != io.EOF || n > 0 && !bytes.Equal(p[:n], want[off:off+int64(n)]) {
			t.Fatalf("ReadAt(%d bytes, %d) of %d: %d, %v", len(p), off, len(want), n, err)
		}
	}
	if _, err := r.ReadAt(make([]byte, 1), -1); err == nil || err == io.EOF {
		t.Errorf("at a negative offset: %v", err)
	}
	if _, err := r.Seek(-1, io.SeekStart); err == nil {
		t.Error("a seek before the beginning")
	}
	if _, err := r.Seek(0, 7); err == nil {
		t.Error("a seek from nowhere")
	}
}

// A value that rots is an error of the reader: when it is made, or of the part that rotted since.
func TestValueReaderDamage(t *testing.T) {
	bad := &badRange{}
	db, err := OpenDevice(unmappedDevice{nvmap.NewMem(64 << 20), bad}, nil)
	must(t, err)
	defer func() { must(t, db.Close()) }()
	want := patterned(5 * partBytes)
	must(t, db.Put([]byte("k"), want))
	tx, err := db.Begin(false)
	must(t, err)
	r, err := tx.Reader([]byte("k"))
	must(t, err)
	at := r.parts[0].off + 2*partBytes + 100
	must(t, db.m.Write(at, []byte{want[2*partBytes+100] + 1}))
	p := make([]byte, partBytes)
	for part := range 5 {
		for _, off := range []int64{0, 50} {
			n, err := r.ReadAt(p[off:], int64(part)*partBytes+off)
			if part == 2 {
				wantErr(t, "the rotten part", err, ErrCorrupt)
			} else if err != nil || !bytes.Equal(p[off:], want[part*partBytes+int(off):(part+1)*partBytes]) {
				t.Errorf("part %d: %d, %v", part, n, err)
			}
		}
	}
	n, err := r.WriteTo(io.Discard)
	wantErr(t, "WriteTo", err, ErrCorrupt)
	if n != 2*partBytes {
		t.Errorf("WriteTo wrote %d bytes", n)
	}
	_, err = tx.Reader([]byte("k"))
	wantErr(t, "a new reader", err, ErrCorrupt)
	must(t, tx.Rollback())
	_, err = r.ReadAt(p, 0)
	wantErr(t, "after the end", err, ErrTxClosed)
	_, err = r.Read(p)
	wantErr(t, "after the end", err, ErrTxClosed)
	_, err = tx.Reader([]byte("k"))
	wantErr(t, "a reader of a Tx that ended", err, ErrTxClosed)
	must(t, db.Put([]byte("k"), nil))
	must(t, db.Put([]byte("m"), want))
	*bad = badRange{r.at.Page().Off() + 64<<10, 64 << 20} // behind the index
	must(t, db.View(func(tx *Tx) error {
		_, err := tx.Reader([]byte("m"))
		wantErr(t, "a place that cannot be read", err, ErrMediaFault)
		return nil
	}))
	*bad = badRange{}
}

// Many goroutines read at once, beside writes of the same key: all see the value of the snapshot.
func TestValueReaderShared(t *testing.T) {
	db := openTest(t, "", &Options{Device: "mem", MaxBytes: 32 << 20})
	want := patterned(6*partBytes + 9)
	must(t, db.Put([]byte("k"), want))
	must(t, db.View(func(tx *Tx) error {
		r, err := tx.Reader([]byte("k"))
		must(t, err)
		var wg sync.WaitGroup
		for w := range 4 {
			wg.Go(func() {
				rng := rand.New(rand.NewPCG(2, uint64(w)))
				p := make([]byte, 10_000)
				for range 100 {
					off := rng.IntN(len(want) - len(p))
					if _, err := r.ReadAt(p, int64(off)); err != nil || !bytes.Equal(p, want[off:off+len(p)]) {
						t.Errorf("at %d: %v", off, err)
						return
					}
				}
			})
		}
		for i := range 20 {
			must(t, db.Put([]byte("k"), make([]byte, 10_000*i)))
		}
		wg.Wait()
		return nil
	}))
}

// A reader of a large value takes little memory.
func TestValueReaderIsLight(t *testing.T) {
	db, err := OpenDevice(unmappedDevice{Device: nvmap.NewMem(128 << 20)}, nil)
	must(t, err)
	defer func() { must(t, db.Close()) }()
	must(t, db.Put([]byte("k"), patterned(16<<20)))
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	must(t, db.View(func(tx *Tx) error {
		r, err := tx.Reader([]byte("k"))
		if err == nil {
			_, err = r.WriteTo(io.Discard)
		}
		return err
	}))
	runtime.ReadMemStats(&after)
	if n := after.TotalAlloc - before.TotalAlloc; n > 4<<20 {
		t.Errorf("%d bytes were allocated", n)
	}
}

// A part that lies outside the device is damage.
func TestValueReaderOutside(t *testing.T) {
	db := openMem(t)
	must(t, db.Put([]byte("k"), patterned(100_000)))
	must(t, db.View(func(tx *Tx) error {
		r, err := tx.Reader([]byte("k"))
		must(t, err)
		r.parts[0].off = nvmap.Off(db.m.Size()) // what a hostile run list would say
		_, err = r.ReadAt(make([]byte, 10), 0)
		wantErr(t, "outside the device", err, ErrCorrupt)
		return nil
	}))
}
