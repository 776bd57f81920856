package kv

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"nvkv/alloc"
	"nvkv/internal/effort"
	"nvkv/kv/internal/backup"
	"nvkv/kv/internal/record"
	"nvkv/nvmap"
	"nvkv/nvmap/crashtest"
)

// smallStream is a backup of a few records.
func smallStream(t testing.TB) ([]byte, model) {
	t.Helper()
	db, err := OpenDevice(nvmap.NewMem(8<<20), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	m := model{}
	for i := range 20 {
		k, v := fmt.Sprint("key", i), strings.Repeat("v", i)
		m[k] = v
		if err := db.Put([]byte(k), []byte(v)); err != nil {
			t.Fatal(err)
		}
	}
	return backupOf(t, db), m
}

// Every rotten bit and every cut of a stream is an error that names the place, and leaves no store.
func TestRestoreDamaged(t *testing.T) {
	skipInRace(t)
	stream, _ := smallStream(t)
	dir := testDir(t)
	path := filepath.Join(dir, "b")
	try := func(what string, in []byte, want error) {
		err := Restore(context.Background(), path, bytes.NewReader(in), nil)
		var e *BackupError
		if !errors.As(err, &e) || !errors.Is(err, want) || e.Off < 0 || e.Off > int64(len(in)) {
			t.Fatalf("%s: %v", what, err)
		}
		left(t, dir)
	}
	step := effort.Pick(7, 7, 1, 1)
	for i := 0; i < len(stream); i += step {
		b := bytes.Clone(stream)
		b[i] ^= 1 << (i % 8)
		want := ErrCorrupt
		if i < 8 {
			want = ErrNotBackup
		}
		try(fmt.Sprint("byte ", i), b, want)
	}
	for n := 0; n < len(stream); n += step {
		want := ErrCorrupt
		if n < 8 {
			want = ErrNotBackup
		}
		try(fmt.Sprint("cut to ", n), stream[:n], want)
	}
	try("no chunk", append(bytes.Clone(stream[:backup.HeaderBytes]), stream[len(stream)-24:]...), ErrCorrupt)
	try("a byte behind the end", append(bytes.Clone(stream), 0), ErrCorrupt)
	try("another backup behind the end", append(bytes.Clone(stream), stream...), ErrCorrupt)
	later := bytes.Clone(stream)
	later[8] = 2
	binary.LittleEndian.PutUint32(later[backup.HeaderBytes-4:], record.BodySum(later[:backup.HeaderBytes-4]))
	try("a later version", later, ErrVersion)
}

// panickyReader panics after some bytes.
type panickyReader struct {
	r    io.Reader
	left int
}

func (p *panickyReader) Read(b []byte) (int, error) {
	if p.left == 0 {
		panic("reader")
	}
	n, err := p.r.Read(b[:min(len(b), p.left)])
	p.left -= n
	return n, err
}

// After a panic of the reader no file is left and none is open.
func TestRestoreFromPanickyReader(t *testing.T) {
	stream, _ := smallStream(t)
	dir := testDir(t)
	for _, n := range []int{0, 4, backup.HeaderBytes, len(stream) / 2, len(stream)} {
		opened := filesOpen(t, dir)
		func() {
			defer func() {
				if r := recover(); r != "reader" {
					t.Errorf("after %d bytes: recovered %v", n, r)
				}
			}()
			err := Restore(context.Background(), filepath.Join(dir, "b"), &panickyReader{bytes.NewReader(stream), n}, nil)
			t.Errorf("after %d bytes: returned %v", n, err)
		}()
		left(t, dir)
		if now := filesOpen(t, dir); now != opened {
			t.Errorf("after %d bytes: %d files of it are open, before %d", n, now, opened)
		}
	}
}

// filesOpen returns how many files below dir this process has open, if the system tells.
func filesOpen(t *testing.T, dir string) (n int) {
	links, err := filepath.Glob("/proc/self/fd/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range links {
		if to, err := os.Readlink(l); err == nil && strings.HasPrefix(to, dir) {
			n++
		}
	}
	return n
}

// Impossible records are refused although the checksum is right.
func TestRestoreForged(t *testing.T) {
	dir := testDir(t)
	for what, payload := range map[string][]byte{
		"key twice":             forge(rec("a", "1"), rec("a", "2")),
		"keys that descend":     forge(rec("b", "1"), rec("a", "2")),
		"unknown flags":         append([]byte{2}, rec("a", "1")[1:]...),
		"a value over 1 GiB":    {0, 1, 0, 0xff, 0xff, 0xff, 0xff, 'a'},
		"a value that is short": {0, 1, 0, 9, 0, 0, 0, 'a', 'b'},
		"a key that is short":   {0, 9, 0, 0, 0, 0, 0, 'a', 'b'},
		"half a header":         {0, 1},
	} {
		err := Restore(context.Background(), filepath.Join(dir, "b"), bytes.NewReader(sealStream(payload, 1)), nil)
		if !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: %v", what, err)
		}
		left(t, dir)
	}
	if err := Restore(context.Background(), filepath.Join(dir, "b"), bytes.NewReader(sealStream(forge(rec("a", "1")), 2)), nil); !errors.Is(err, ErrCorrupt) {
		t.Errorf("a trailer that counts too many: %v", err)
	}
}

func forge(records ...[]byte) []byte { return bytes.Join(records, nil) }

func rec(key, value string) []byte {
	return append([]byte{0, byte(len(key)), 0, byte(len(value)), 0, 0, 0}, key+value...)
}

// sealStream makes a stream with right checksums around an arbitrary payload.
func sealStream(payload []byte, records uint64) []byte {
	var b bytes.Buffer
	s := backup.NewWriter(&b, &backup.Header{})
	_ = s.Finish()
	stream := b.Bytes()[:backup.HeaderBytes]
	table, le := crc32.MakeTable(crc32.Castagnoli), binary.LittleEndian
	sum := crc32.Checksum(stream[:backup.HeaderBytes-4], table)
	chunk := func(n int, b []byte) {
		h := le.AppendUint32(nil, uint32(n))
		sum = crc32.Update(crc32.Update(sum, table, h), table, b)
		stream = append(append(stream, le.AppendUint32(h, sum)...), b...)
	}
	for rest := payload; len(rest) > 0; {
		n := min(len(rest), backup.ChunkBytes)
		chunk(n, rest[:n])
		rest = rest[n:]
	}
	chunk(0, le.AppendUint64(le.AppendUint64(nil, records), uint64(len(payload))))
	return stream
}

func TestRestoreRefuses(t *testing.T) {
	dir := testDir(t)
	stream, _ := smallStream(t)
	ctx := context.Background()
	there := filepath.Join(dir, "there")
	if err := os.WriteFile(there, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Restore(ctx, there, bytes.NewReader(stream), nil); !errors.Is(err, os.ErrExist) {
		t.Errorf("over a file: %v", err)
	}
	if b, _ := os.ReadFile(there); string(b) != "mine" {
		t.Errorf("the file now holds %q", b)
	}
	if err := Restore(ctx, dir, bytes.NewReader(stream), nil); err == nil {
		t.Error("over a directory: no error")
	}
	if err := Restore(ctx, filepath.Join(dir, "no", "such"), bytes.NewReader(stream), nil); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("in a directory that is not there: %v", err)
	}
	for _, o := range []*Options{{ReadOnly: true}, {Device: "mem"}, {MaxBytes: -1}} {
		if err := Restore(ctx, filepath.Join(dir, "b"), bytes.NewReader(stream), o); err == nil {
			t.Errorf("with %+v: no error", o)
		}
	}
	if err := Restore(ctx, "", bytes.NewReader(stream), nil); err == nil {
		t.Error("at no path: no error")
	}
	cancelled, cancel := context.WithCancel(ctx)
	cancel()
	if err := Restore(cancelled, filepath.Join(dir, "b"), bytes.NewReader(stream), nil); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	// A store that another process makes there meanwhile stays.
	late := filepath.Join(dir, "late")
	if err := Restore(ctx, late, &hooked{stream, func() { os.WriteFile(late, []byte("theirs"), 0o600) }}, nil); !errors.Is(err, os.ErrExist) {
		t.Errorf("a file that came meanwhile: %v", err)
	}
	if b, _ := os.ReadFile(late); string(b) != "theirs" {
		t.Errorf("the file that came meanwhile now holds %q", b)
	}
	left(t, dir, "late", "there")
}

// hooked reads b and calls hook once before the first byte.
type hooked struct {
	b    []byte
	hook func()
}

func (h *hooked) Read(p []byte) (int, error) {
	if h.hook != nil {
		h.hook()
		h.hook = nil
	}
	if len(h.b) == 0 {
		return 0, io.EOF
	}
	n := copy(p, h.b)
	h.b = h.b[n:]
	return n, nil
}

// I7: after a crash during a restore on a device there is no store, or the whole one.
func TestI7_RestoreIsAllOrNothing(t *testing.T) {
	skipInRace(t)
	stream, want := smallStream(t)
	if images, err := crashRestore(nil, stream, want, 0); err != nil {
		t.Error(err)
	} else if images < 50 {
		t.Errorf("only %d images", images)
	}
	if !switches(t) {
		return
	}
	_, err := crashRestore(nil, stream, want, ruleI7)
	if err == nil {
		t.Fatal("without the rule nothing was wrong: the test does not test it")
	}
	t.Logf("without the rule: %.200v", err)
}

func crashRestore(sites *crashtest.Sites, stream []byte, want model, broken rules) (images int, err error) {
	dev := nvmap.NewSim(nvmap.NewMem(crashMediumBytes))
	defer dev.Close()
	o := &Options{SlabBytes: 4096, broken: broken}
	whole := 0
	look := func(limit int) {
		for im := range dev.Images(1, limit) {
			if err != nil {
				return
			}
			images++
			var n int
			if n, err = restored(im.Device(), want); err != nil {
				err = fmt.Errorf("%v: %w", im, err)
			}
			whole += n
		}
	}
	dev.OnFence(func() { look(20) })
	dev.OnWrite(func(nvmap.Off, int) { look(1) })
	if e := RestoreDevice(context.Background(), sites.Device(dev), bytes.NewReader(stream), o); e != nil {
		return images, e
	}
	before, seen := whole, images
	look(20)
	if whole-before != images-seen && err == nil {
		err = errors.New("the restore had returned, and an image does not hold the store")
	}
	return images, err
}

// restored says whether an image holds a store (1), which must be complete, or none (0).
func restored(dev *nvmap.Sim, want model) (int, error) {
	m, err := nvmap.NewMap(crashDevice{dev}, nil)
	if err != nil {
		return 0, err
	}
	absent, err := alloc.Absent(m)
	if err = firstErr(err, m.Close()); err != nil || absent {
		return 0, err
	}
	db, err := OpenDevice(crashDevice{dev}, &Options{SlabBytes: 4096})
	if err != nil {
		return 0, err
	}
	defer abandon(db)
	return 1, firstErr(holds(db, want), clean(db))
}

// FuzzRestore: any bytes are restored as a whole or are an error, and a backup of the restored
// store has the same records. The first byte says whether the rest is a stream or a payload, around
// which the test puts right checksums.
func FuzzRestore(f *testing.F) {
	stream, _ := smallStream(f)
	f.Add(append([]byte{0}, stream...))
	f.Add(append([]byte{1}, forge(rec("", ""), rec("a", "1"), rec("b", "2"))...))
	f.Add(append([]byte{3}, 1, 1, 0, 1, 0, 0, 0, 255, 255, 255, 255, 255, 255, 255, 127, 'k', 'v'))
	f.Add([]byte{1, 0, 1, 0, 0xff, 0xff, 0xff, 0x3f, 'a'})
	f.Fuzz(func(t *testing.T, in []byte) {
		if len(in) == 0 || len(in) > 1<<16 {
			return
		}
		stream := in[1:]
		if in[0]&1 != 0 {
			stream = sealStream(in[1:], uint64(in[0]>>1))
		}
		dev := nvmap.NewSim(nvmap.NewMem(crashMediumBytes))
		defer dev.Close()
		err := RestoreDevice(context.Background(), crashDevice{dev}, bytes.NewReader(stream), &Options{SlabBytes: 4096})
		var bad *BackupError
		if err != nil {
			if !errors.As(err, &bad) {
				t.Fatal(err)
			}
			if _, err := OpenDevice(crashDevice{dev}, &Options{ReadOnly: true}); !errors.Is(err, ErrNotStore) {
				t.Fatalf("after a restore that failed: %v", err)
			}
			return
		}
		db, err := OpenDevice(crashDevice{dev}, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		again, err := backup.NewReader(bytes.NewReader(backupOf(t, db)))
		if err != nil {
			t.Fatal(err)
		}
		first, _ := backup.NewReader(bytes.NewReader(stream))
		for {
			k, v, x, err := liveRecord(first)
			k2, v2, x2, err2 := liveRecord(again)
			if err != err2 || !bytes.Equal(k, k2) || !bytes.Equal(v, v2) || x != x2 {
				t.Fatalf("restored %q=%q until %d, %v; the backup has %q=%q until %d, %v", k2, v2, x2, err2, k, v, x, err)
			}
			if err != nil {
				return
			}
		}
	})
}

// liveRecord returns the next record that has not expired.
func liveRecord(s *backup.Reader) (k, v []byte, expiry int64, err error) {
	for at := time.Now().UnixNano(); ; {
		if k, v, expiry, err = s.Next(); err != nil || expiry == 0 || expiry > at {
			return k, v, expiry, err
		}
	}
}
