package kv

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math/rand/v2"
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

// backupOf returns a store's backup.
func backupOf(t testing.TB, db *DB) []byte {
	t.Helper()
	var b bytes.Buffer
	n, err := db.Backup(context.Background(), &b)
	if err != nil || n != int64(b.Len()) {
		t.Fatalf("Backup = %d, %v; %d bytes written", n, err, b.Len())
	}
	return b.Bytes()
}

// expiries returns the expiry of each key, from the records.
func expiries(t testing.TB, db *DB) map[string]int64 {
	t.Helper()
	tx, err := db.Begin(false)
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback()
	out := map[string]int64{}
	if err := tx.eachRecord(func(it *item) error { out[string(it.Key)] = it.expiry; return nil }); err != nil {
		t.Fatal(err)
	}
	return out
}

// backupStore returns a store with keys and values of every kind.
func backupStore(t testing.TB, path string) *DB {
	t.Helper()
	db := openTest(t, path, nil)
	rng := rand.New(rand.NewPCG(1, 1))
	put := func(k string, n int) {
		v := make([]byte, n)
		for i := range v {
			v[i] = byte(rng.Uint32())
		}
		if err := db.Put([]byte(k), v); err != nil {
			t.Fatal(err)
		}
	}
	put("", 3)
	put("empty", 0)
	put(strings.Repeat("k", MaxKeyBytes), 10)
	put(strings.Repeat("l", 5000), 100_000)
	put("large", 3*backup.ChunkBytes+17)
	for i := range 3000 {
		put(fmt.Sprintf("key/%05d", i*7919%3000), rng.IntN(300))
	}
	for i := range 100 {
		if err := db.PutTTL(fmt.Appendf(nil, "ttl/%03d", i), []byte("kept"), time.Hour+time.Duration(i)); err != nil {
			t.Fatal(err)
		}
	}
	putExpired(t, db, "gone", []byte("x"))
	return db
}

func TestBackupRestore(t *testing.T) {
	dir := testDir(t)
	db := backupStore(t, filepath.Join(dir, "a"))
	want, err := contents(db)
	if err != nil {
		t.Fatal(err)
	}
	var told []Progress
	db.opt.Progress = func(p Progress) { told = append(told, p) }
	stream := backupOf(t, db)
	db.opt.Progress = nil
	if p := told[len(told)-1]; p.Op != "backup" || p.Done != int64(len(want)) || p.Total < p.Done || p.Bytes != int64(len(stream)) {
		t.Errorf("at the end the progress is %+v, want %d keys and %d bytes done", p, len(want), len(stream))
	}
	told = nil
	in := bytes.NewReader(stream)
	path := filepath.Join(dir, "b")
	if err := Restore(context.Background(), path, in, &Options{Progress: func(p Progress) { told = append(told, p) }}); err != nil {
		t.Fatal(err)
	}
	again := openTest(t, path, nil)
	if err := holds(again, want); err != nil {
		t.Error(err)
	}
	was, is := expiries(t, db), expiries(t, again)
	for k, at := range was {
		if is[k] != at {
			t.Errorf("%s expires at %d, was %d", shortKey(k), is[k], at)
		}
	}
	if _, ok := want["gone"]; ok || len(was) != len(is) {
		t.Errorf("%d records restored of %d; an expired one is among them: %v", len(is), len(was), ok)
	}
	last := told[len(told)-1]
	if last.Op != "restore" || last.Done != int64(len(want)) || last.Total < last.Done {
		t.Errorf("at the end the progress is %+v, want %d keys done", last, len(want))
	}
	if twice := backupOf(t, again); len(twice) != len(stream) {
		t.Errorf("the backup of the restored store has %d bytes, the first had %d", len(twice), len(stream))
	}
	left(t, dir, "a", "b")
}

// left fails unless a directory contains exactly these names.
func left(t testing.TB, dir string, names ...string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var have []string
	for _, e := range entries {
		have = append(have, e.Name())
	}
	if fmt.Sprint(have) != fmt.Sprint(names) {
		t.Errorf("in the directory: %q, want %q", have, names)
	}
}

func TestBackupOfNothing(t *testing.T) {
	dir := testDir(t)
	stream := backupOf(t, openTest(t, filepath.Join(dir, "a"), nil))
	if want := backup.HeaderBytes + 24; len(stream) != want {
		t.Errorf("%d bytes, want %d", len(stream), want)
	}
	path := filepath.Join(dir, "b")
	if err := Restore(context.Background(), path, bytes.NewReader(stream), nil); err != nil {
		t.Fatal(err)
	}
	if err := holds(openTest(t, path, nil), model{}); err != nil {
		t.Error(err)
	}
}

// A backup shows one instant: writes meanwhile are not in it.
func TestBackupBesideWriters(t *testing.T) {
	dir := testDir(t)
	db := backupStore(t, filepath.Join(dir, "a"))
	want, err := contents(db)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	i := 0
	_, err = db.Backup(context.Background(), writerFunc(func(p []byte) (int, error) {
		for range 200 {
			k := fmt.Appendf(nil, "key/%05d", i*7919%3000)
			if i++; i%3 == 0 {
				err = db.Delete(k)
			} else {
				err = db.Put(k, []byte("later"))
			}
			if err != nil {
				t.Error(err)
			}
		}
		return b.Write(p)
	}))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "b")
	if err := Restore(context.Background(), path, &b, nil); err != nil {
		t.Fatal(err)
	}
	if err := holds(openTest(t, path, nil), want); err != nil {
		t.Error(err)
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

func TestBackupEndsEarly(t *testing.T) {
	db := backupStore(t, filepath.Join(testDir(t), "a"))
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	n := 0
	_, err := db.Backup(ctx, writerFunc(func(p []byte) (int, error) {
		if n++; n == 2 {
			cancel()
		}
		return len(p), nil
	}))
	if !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	broken := errors.New("pipe")
	written, err := db.Backup(context.Background(), writerFunc(func(p []byte) (int, error) { return 5, broken }))
	if !errors.Is(err, broken) || written != 5 {
		t.Errorf("a writer that fails: %d, %v", written, err)
	}
	if m := db.Metrics(); m.Snapshots != 0 {
		t.Errorf("%d snapshots left open", m.Snapshots)
	}
	_, err = db.Backup(context.Background(), writerFunc(func(p []byte) (int, error) { go db.Close(); return len(p), waitClosed(db) }))
	if !errors.Is(err, ErrClosed) {
		t.Errorf("closed meanwhile: %v", err)
	}
	if _, err := db.Backup(context.Background(), io.Discard); !errors.Is(err, ErrClosed) {
		t.Errorf("closed before: %v", err)
	}
}

func waitClosed(db *DB) error {
	for !db.closed.Load() {
		time.Sleep(time.Millisecond)
	}
	return nil
}

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
