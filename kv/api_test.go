package kv_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"nvkv/kv"
)

// The API that other programs rely on: names and signatures, which must compile here, and meanings,
// which the tests below check from outside.
var (
	_ func(string, *kv.Options) (*kv.DB, error) = kv.Open

	_ interface {
		Get(key []byte) ([]byte, error)
		GetAppend(dst, key []byte) ([]byte, error)
		Has(key []byte) (bool, error)
		Put(key, value []byte) error
		PutTTL(key, value []byte, ttl time.Duration) error
		PutUntil(key, value []byte, expiry time.Time) error
		Expiry(key []byte) (time.Time, error)
		Delete(key []byte) error
		PutIfAbsent(key, value []byte) (stored bool, err error)
		CompareAndSwap(key, old, value []byte) (swapped bool, err error)
		CompareAndDelete(key, old []byte) (deleted bool, err error)
		DeleteRange(start, end []byte) error
		NewBatch() *kv.Batch
		Write(*kv.Batch) error
		View(func(*kv.Tx) error) error
		Update(func(*kv.Tx) error) error
		UpdateContext(ctx context.Context, fn func(*kv.Tx) error) error
		Begin(writable bool) (*kv.Tx, error)
		Checkpoint(context.Context) error
		Sync() error
		Compact(context.Context) error
		Backup(context.Context, io.Writer) (int64, error)
		Check(context.Context, func(kv.CheckIssue)) error
		GetMany(keys [][]byte, fn func(i int, value []byte, err error) bool) error
		Metrics() kv.Metrics
		Close() error
	} = (*kv.DB)(nil)

	_ func(context.Context, string, io.Reader, *kv.Options) error = kv.Restore

	_ interface {
		Put(key, value []byte)
		PutTTL(key, value []byte, ttl time.Duration)
		PutUntil(key, value []byte, expiry time.Time)
		Delete(key []byte)
		DeleteRange(start, end []byte)
		Len() int
		Size() int
		Reset()
		Replay(put func(key, value []byte, ttl time.Duration), del func(key []byte), delRange func(start, end []byte))
	} = (*kv.Batch)(nil)

	_ interface {
		Get(key []byte) ([]byte, error)
		Has(key []byte) (bool, error)
		Put(key, value []byte) error
		PutTTL(key, value []byte, ttl time.Duration) error
		PutUntil(key, value []byte, expiry time.Time) error
		Expiry(key []byte) (time.Time, error)
		Delete(key []byte) error
		DeleteRange(start, end []byte) error
		All(start, end []byte) iter.Seq2[[]byte, []byte]
		Backward(start, end []byte) iter.Seq2[[]byte, []byte]
		Prefix(p []byte) iter.Seq2[[]byte, []byte]
		PrefixBackward(p []byte) iter.Seq2[[]byte, []byte]
		Keys(start, end []byte) iter.Seq[[]byte]
		GetMany(keys [][]byte, fn func(i int, value []byte, err error) bool) error
		Cursor() *kv.Cursor
		Err() error
		Commit() error
		Rollback() error
	} = (*kv.Tx)(nil)

	_ = kv.Options{
		Device: "", ReadOnly: false, CacheBytes: 0, CachePolicy: "", WriteProtect: (*bool)(nil),
		Durability: kv.Sync, CheckpointBytes: 0, Logger: (*slog.Logger)(nil),
	}
	_ = []kv.Durability{kv.Sync, kv.Relaxed}
	_ = []error{
		kv.ErrNotFound, kv.ErrClosed, kv.ErrReadOnly, kv.ErrTxClosed, kv.ErrKeyTooLarge, kv.ErrValueTooLarge, kv.ErrFull,
		kv.ErrLocked, kv.ErrFailed, kv.ErrCorrupt, kv.ErrMediaFault, kv.ErrVersion, kv.ErrNotStore,
	}
)

func openAPI(t *testing.T) *kv.DB {
	t.Helper()
	db, err := kv.Open(filepath.Join(t.TempDir(), "s"), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return db
}

func noErr(t *testing.T, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

// keysOf collects what an iterator yields.
func keysOf(s iter.Seq2[[]byte, []byte]) string {
	var keys []string
	for k := range s {
		keys = append(keys, string(k))
	}
	return strings.Join(keys, " ")
}

func want[T comparable](t *testing.T, what string, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("%s: %v, want %v", what, got, want)
	}
}

// TestAPIRanges: the meaning of nil, empty and crossed bounds.
func TestAPIRanges(t *testing.T) {
	db := openAPI(t)
	for _, k := range []string{"", "a", "b", "ba", "c"} {
		noErr(t, db.Put([]byte(k), []byte("v")))
	}
	a, c, empty := []byte("a"), []byte("c"), []byte{}
	noErr(t, db.View(func(tx *kv.Tx) error {
		want(t, "All(nil, nil)", keysOf(tx.All(nil, nil)), " a b ba c")
		want(t, "All(a, c)", keysOf(tx.All(a, c)), "a b ba")
		want(t, "All(a, nil)", keysOf(tx.All(a, nil)), "a b ba c")
		want(t, "All(nil, empty)", keysOf(tx.All(nil, empty)), "")
		want(t, "All(c, a)", keysOf(tx.All(c, a)), "")
		want(t, "All(a, a)", keysOf(tx.All(a, a)), "")
		want(t, "Backward(a, c)", keysOf(tx.Backward(a, c)), "ba b a")
		want(t, "Backward(nil, nil)", keysOf(tx.Backward(nil, nil)), "c ba b a ")
		want(t, "Prefix(b)", keysOf(tx.Prefix([]byte("b"))), "b ba")
		want(t, "PrefixBackward(b)", keysOf(tx.PrefixBackward([]byte("b"))), "ba b")
		want(t, "Prefix(nil)", keysOf(tx.Prefix(nil)), " a b ba c")
		return tx.Err()
	}))
	noErr(t, db.DeleteRange(c, a), db.DeleteRange(nil, empty))
	want(t, "keys after empty ranges", db.Metrics().Keys, 5)
	noErr(t, db.DeleteRange(a, c))
	want(t, "keys after a range", db.Metrics().Keys, 2)
	noErr(t, db.DeleteRange(nil, nil))
	want(t, "keys after everything", db.Metrics().Keys, 0)
}

// TestAPICursor: every move, and both ends.
func TestAPICursor(t *testing.T) {
	db := openAPI(t)
	for _, k := range []string{"a", "c", "e"} {
		noErr(t, db.Put([]byte(k), []byte("v"+k)))
	}
	noErr(t, db.View(func(tx *kv.Tx) error {
		c := tx.Cursor()
		at := func(what string, ok bool, key string) {
			t.Helper()
			want(t, what, ok, key != "")
			want(t, what+", Valid", c.Valid(), ok)
			if ok {
				want(t, what+", Key and Value", string(c.Key())+string(c.Value()), key+"v"+key)
			}
		}
		at("First", c.First(), "a")
		at("Next", c.Next(), "c")
		at("Prev", c.Prev(), "a")
		at("Last", c.Last(), "e")
		at("Next at the end", c.Next(), "")
		at("Prev behind the last", c.Prev(), "e")
		at("First", c.First(), "a")
		at("Prev at the beginning", c.Prev(), "")
		at("Next before the first", c.Next(), "a")
		at("Seek present", c.Seek([]byte("c")), "c")
		at("Seek absent", c.Seek([]byte("b")), "c")
		at("Seek behind", c.Seek([]byte("f")), "")
		at("SeekLT present", c.SeekLT([]byte("c")), "a")
		at("SeekLT absent", c.SeekLT([]byte("d")), "c")
		at("SeekLT the first", c.SeekLT([]byte("a")), "")
		noErr(t, c.Err(), c.Close())
		return nil
	}))
}

// TestAPIBatch: order, reuse, Replay and free operations.
func TestAPIBatch(t *testing.T) {
	db := openAPI(t)
	noErr(t, db.Put([]byte("k0"), nil))
	fences := db.Metrics().Fences
	b := db.NewBatch()
	noErr(t, db.Write(b))
	want(t, "fences of an empty batch", db.Metrics().Fences, fences)
	b.Put([]byte("k1"), []byte("covered"))
	b.DeleteRange([]byte("k"), []byte("l"))
	b.Put([]byte("k2"), []byte("first"))
	b.Put([]byte("k2"), []byte("last"))
	b.Delete([]byte("absent"))
	want(t, "Len", b.Len(), 5)
	want(t, "Size is more than nothing", b.Size() > 0, true)
	for range 2 { // again without Reset
		noErr(t, db.Write(b))
		v, err := db.Get([]byte("k2"))
		noErr(t, err)
		want(t, "the last operation wins", string(v), "last")
		want(t, "keys", db.Metrics().Keys, 1)
	}
	var told []string
	tell := func(what string) func([]byte) { return func(k []byte) { told = append(told, what+string(k)) } }
	b.Replay(
		func(k, v []byte, _ time.Duration) { tell("put ")(append(k, v...)) }, tell("delete "),
		func(start, end []byte) { tell("range ")(append(start, end...)) })
	want(t, "Replay", strings.Join(told, ", "), "put k1covered, range kl, put k2first, put k2last, delete absent")
	b.Reset()
	want(t, "Len after Reset", b.Len(), 0)
}

// TestAPILimits: the limits of keys and values, and the reuse of the caller's buffers.
func TestAPILimits(t *testing.T) {
	db := openAPI(t)
	long, longest := make([]byte, 65_536), make([]byte, 65_535)
	for what, err := range map[string]error{
		"Put": db.Put(long, nil), "PutTTL": db.PutTTL(long, nil, time.Hour),
		"Tx.Put": db.Update(func(tx *kv.Tx) error { return tx.Put(long, nil) }),
	} {
		want(t, what+" of a key too long", errors.Is(err, kv.ErrKeyTooLarge), true)
	}
	_, err := db.Get(long)
	want(t, "Get of a key too long", errors.Is(err, kv.ErrNotFound), true)
	found, err := db.Has(long)
	noErr(t, err, db.Delete(long))
	want(t, "Has of a key too long", found, false)

	key, value := []byte("key"), []byte("value")
	noErr(t, db.Put(key, value), db.Put(longest, nil), db.Put(nil, nil))
	copy(key, "xxx")
	copy(value, "xxxxx")
	dst := append(make([]byte, 0, 64), "dst "...)
	out, err := db.GetAppend(dst, []byte("key"))
	noErr(t, err)
	want(t, "a value whose buffers were used again", string(out), "dst value")
	want(t, "GetAppend uses the room of dst", &out[0] == &dst[0], true)
	for _, k := range [][]byte{nil, {}, longest} {
		v, err := db.Get(k)
		noErr(t, err)
		want(t, "an empty value", len(v), 0)
	}
	noErr(t, db.PutTTL([]byte("key"), nil, 0))
	_, err = db.Get([]byte("key"))
	want(t, "PutTTL of no time", errors.Is(err, kv.ErrNotFound), true)
}

// TestAPIClose: the effect of Close on open transactions and on later calls.
func TestAPIClose(t *testing.T) {
	db, err := kv.Open(filepath.Join(t.TempDir(), "s"), nil)
	noErr(t, err)
	noErr(t, db.Put([]byte("k"), []byte("v")))
	reader, err := db.Begin(false)
	noErr(t, err)
	slice, err := reader.Get([]byte("k"))
	noErr(t, err)
	writer, err := db.Begin(true)
	noErr(t, err)
	noErr(t, writer.Put([]byte("lost"), nil))
	noErr(t, db.Close(), db.Close())
	want(t, "a slice after Close", string(slice), "v")
	ctx := context.Background()
	_, get := db.Get(nil)
	_, has := db.Has(nil)
	_, begin := db.Begin(false)
	_, beginWrite := db.Begin(true)
	_, backup := db.Backup(ctx, io.Discard)
	_, readerGet := reader.Get(nil)
	b := db.NewBatch()
	b.Put(nil, nil)
	for what, err := range map[string]error{
		"Get": get, "Has": has, "Put": db.Put(nil, nil), "PutTTL": db.PutTTL(nil, nil, 1), "Delete": db.Delete(nil),
		"DeleteRange": db.DeleteRange(nil, nil), "Write": db.Write(b), "Begin": begin, "Begin(true)": beginWrite,
		"View": db.View(func(*kv.Tx) error { return nil }), "Update": db.Update(func(*kv.Tx) error { return nil }),
		"Checkpoint": db.Checkpoint(ctx), "Sync": db.Sync(), "Compact": db.Compact(ctx), "Backup": backup,
		"Check": db.Check(ctx, func(kv.CheckIssue) {}), "a reader's Get": readerGet, "a writer's Commit": writer.Commit(),
	} {
		if !errors.Is(err, kv.ErrClosed) {
			t.Errorf("%s after Close: %v", what, err)
		}
	}
	want(t, "what a reader iterates over after Close", keysOf(reader.All(nil, nil)), "")
	want(t, "the reader's Err", errors.Is(reader.Err(), kv.ErrClosed), true)
	noErr(t, reader.Rollback())
	_, err = reader.Get(nil)
	want(t, "a Tx that has ended", errors.Is(err, kv.ErrTxClosed), true)
}

// TestAPIBackup: a stream from one store makes another.
func TestAPIBackup(t *testing.T) {
	db := openAPI(t)
	noErr(t, db.Put([]byte("k"), []byte("v")))
	var stream bytes.Buffer
	n, err := db.Backup(context.Background(), &stream)
	noErr(t, err)
	want(t, "bytes of the backup", n, int64(stream.Len()))
	path := filepath.Join(t.TempDir(), "restored")
	noErr(t, kv.Restore(context.Background(), path, &stream, nil))
	again, err := kv.Open(path, &kv.Options{ReadOnly: true})
	noErr(t, err)
	defer again.Close()
	v, err := again.Get([]byte("k"))
	noErr(t, err)
	want(t, "the restored value", string(v), "v")
	want(t, "a write to a store opened to be read", errors.Is(again.Put(nil, nil), kv.ErrReadOnly), true)
}

// TestAPIMetrics: each promised figure exists, under its name in JSON.
func TestAPIMetrics(t *testing.T) {
	db := openAPI(t)
	noErr(t, db.Put([]byte("k"), []byte("v")))
	for range 3 {
		_, err := db.Get([]byte("k"))
		_, has := db.Has([]byte("absent"))
		noErr(t, err, has)
	}
	noErr(t, db.View(func(tx *kv.Tx) error { _, err := tx.Get([]byte("k")); return err }))
	text, err := json.Marshal(db.Metrics())
	noErr(t, err)
	var m map[string]any
	noErr(t, json.Unmarshal(text, &m))
	for _, name := range strings.Fields(`
		keys live_bytes device_bytes free_bytes puts gets deletes commits fences user_bytes media_bytes media_record_bytes media_index_bytes
		media_metadata_bytes media_lines write_amplification cache_hits cache_misses cache_evictions cache_write_backs
		dram_frame_bytes dram_slabs_bytes dram_held_bytes snapshots oldest_snapshot_age_ns pinned_bytes checkpoints checkpoint_ns
		recovery_ns recovery_records_replayed wear_max_bytes wear_mean_bytes`) {
		if _, ok := m[name]; !ok {
			t.Errorf("no %s among %v", name, slices.Sorted(maps.Keys(m)))
		}
	}
	want(t, "puts and gets", fmt.Sprint(m["puts"], m["gets"]), "1 7")
}
