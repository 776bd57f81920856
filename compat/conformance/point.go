package conformance

import (
	"bytes"
	"fmt"
	"strings"

	"nvkv/compat"
	"nvkv/internal/effort"
)

var pointCases = []testCase{
	{"EmptyStore", emptyStore},
	{"PutGet", putGet},
	{"Overwrite", overwrite},
	{"EmptyKey", emptyKey},
	{"EmptyValue", emptyValue},
	{"GetAppends", getAppends},
	{"BuffersReused", buffersReused},
	{"ResultIsTheCallers", resultIsTheCallers},
	{"DeleteAbsent", deleteAbsent},
	{"DeleteThenPut", deleteThenPut},
	{"KeySizes", keySizes},
	{"KeyTooLarge", keyTooLarge},
	{"ValueSizes", valueSizes},
	{"ValueShrinksAndGrows", valueShrinksAndGrows},
	{"ValueHuge", valueHuge},
	{"GetMany", getMany},
	{"GetManyStops", getManyStops},
}

// getMany looks up present, absent and repeated keys together, of the engine and of a snapshot.
func getMany(s *store) {
	var keys [][]byte
	want := make(map[string]string)
	for i := range 100 {
		key := fmt.Sprintf("k%03d", i*37%100)
		if keys = append(keys, []byte(key)); i%3 != 0 {
			want[key] = strings.Repeat(key, 1+i%50)
			s.put(key, want[key])
		}
	}
	keys = append(keys, keys[1], keys[0], nil, []byte("k"), keys[1])
	s.wantMany(s.Engine, keys, want)
	r := s.snapshot()
	defer r.Close()
	for key := range want {
		s.del(key)
	}
	s.put("k", "late")
	if m, ok := r.(compat.ManyGetter); ok {
		s.wantMany(m, keys, want)
	}
	s.wantMany(s.Engine, keys, map[string]string{"k": "late"})
	s.wantMany(s.Engine, nil, nil)
}

// getManyStops checks that fn ends the lookups.
func getManyStops(s *store) {
	var keys [][]byte
	for i := range 50 {
		s.put(fmt.Sprint(i), "v")
		keys = append(keys, fmt.Append(nil, i))
	}
	calls := 0
	s.must(compat.GetMany(s.Engine, keys, func(i int, _ []byte, _ error) bool {
		calls++
		return i < 20
	}))
	if calls != 21 {
		s.Fatalf("fn was called %d times, want 21", calls)
	}
}

// wantMany checks the answers of GetMany. from is an engine or a ManyGetter.
func (s *store) wantMany(from any, keys [][]byte, want map[string]string) {
	s.Helper()
	next := 0
	fn := func(i int, value []byte, err error) bool {
		s.Helper()
		if i != next {
			s.Fatalf("key %d comes as number %d", i, next)
		}
		next++
		switch v, ok := want[string(keys[i])]; {
		case !ok:
			s.wantErr("GetMany of an absent key", err, compat.ErrNotFound)
		case err != nil || string(value) != v:
			s.Fatalf("GetMany(%s) = %s, %v, want %s", brief(string(keys[i])), brief(string(value)), err, brief(v))
		}
		return true
	}
	get := func() error { return from.(compat.ManyGetter).GetMany(keys, fn) }
	if e, ok := from.(compat.Engine); ok {
		get = func() error { return compat.GetMany(e, keys, fn) }
	}
	if s.must(get()); next != len(keys) {
		s.Fatalf("%d answers to %d keys", next, len(keys))
	}
}

func emptyStore(s *store) {
	s.wantAbsent(s, "k")
	s.wantAbsent(s, "")
	s.del("k")
	s.wantScan(s, nil, -1, nil)
	s.wantScan(s, []byte("k"), 10, nil)
	s.must(s.Flush())
}

func putGet(s *store) {
	want := map[string]string{"a": "1", "b": "2", "c\x00": "3", "\x00": "4", "\xff": "5"}
	for key, value := range want {
		s.put(key, value)
	}
	s.wantAll(s, want)
	for _, absent := range []string{"A", "aa", "c", "c\x00\x00", "\x00\x00", "\xff\xff", ""} {
		s.wantAbsent(s, absent)
	}
}

func overwrite(s *store) {
	for i := range 100 {
		s.put("k", fmt.Sprint(i))
		s.want(s, "k", fmt.Sprint(i))
	}
	s.wantAll(s, map[string]string{"k": "99"})
}

func emptyKey(s *store) {
	s.put("a", "after")
	s.wantAbsent(s, "")
	s.must(s.Put(nil, []byte("nil")))
	s.want(s, "", "nil")
	s.must(s.Put([]byte{}, []byte("empty")))
	s.wantAll(s, map[string]string{"": "empty", "a": "after"})
	s.wantScan(s, []byte{}, 1, []entry{{"", "empty"}})
	s.wantScan(s, []byte{0}, -1, []entry{{"a", "after"}})
	s.reopen()
	s.want(s, "", "empty")
	s.write(deleteOp(""))
	s.wantAll(s, map[string]string{"a": "after"})
	s.write(putOp("", ""))
	s.wantAll(s, map[string]string{"": "", "a": "after"})
	s.del("")
	s.wantAbsent(s, "")
}

func emptyValue(s *store) {
	s.must(s.Put([]byte("nil"), nil))
	s.must(s.Put([]byte("empty"), []byte{}))
	s.write(putOp("batch", ""))
	long := strings.Repeat("k", 30_000) // nvkv stores such long keys differently
	s.put(long, "")
	want := map[string]string{"nil": "", "empty": "", "batch": "", long: ""}
	s.wantAll(s, want)
	s.wantNotNil(s, want)
	snapshot, err := s.Snapshot()
	s.must(err)
	s.wantNotNil(snapshot, want)
	s.must(snapshot.Close())
	s.reopen()
	s.wantAll(s, want)
	s.wantNotNil(s, want)
	s.del("empty")
	s.wantAbsent(s, "empty")
	s.put("nil", "no longer")
	s.put("nil", "")
	s.want(s, "nil", "")
}

// wantNotNil checks that empty values are returned as empty slices and not as nil.
func (s *store) wantNotNil(r reader, keys map[string]string) {
	s.Helper()
	for key := range keys {
		if value, err := r.Get(nil, []byte(key)); err != nil || value == nil {
			s.Errorf("Get of an empty value, key of %d bytes: nil %v, %v", len(key), value == nil, err)
		}
	}
	s.must(r.Scan(nil, -1, func(key, value []byte) bool {
		if value == nil {
			s.Errorf("Scan of an empty value, key of %d bytes: nil", len(key))
		}
		return true
	}))
}

func getAppends(s *store) {
	s.put("k", "value")
	dst := append(make([]byte, 0, 64), "prefix-"...)
	got, err := s.Get(dst, []byte("k"))
	s.must(err)
	if string(got) != "prefix-value" {
		s.Fatalf("Get appended to %q: %q", dst, got)
	}
	if &got[0] != &dst[0] {
		s.Errorf("Get moved a buffer that had room for the value")
	}
	got, err = s.Get(dst, []byte("absent"))
	s.wantErr("Get of an absent key", err, compat.ErrNotFound)
	if string(got) != "prefix-" {
		s.Fatalf("Get of an absent key left %q in dst", got)
	}
	got, err = s.Get(make([]byte, 2, 3), []byte("k"))
	s.must(err)
	if string(got) != "\x00\x00value" {
		s.Fatalf("Get into a buffer without room: %q", got)
	}
}

func buffersReused(s *store) {
	key, value := []byte("key-1"), []byte("value-1")
	s.must(s.Put(key, value))
	copy(key, "other")
	copy(value, "another")
	s.want(s, "key-1", "value-1")

	ops := []compat.Op{putOp("key-2", "value-2"), putOp("key-3", "value-3"), deleteOp("key-1")}
	s.must(s.WriteBatch(ops))
	for i := range ops {
		scribble(ops[i].Key)
		scribble(ops[i].Value)
		ops[i] = compat.Op{}
	}
	key = []byte("key-4")
	s.must(s.Delete(key))
	scribble(key)
	want := map[string]string{"key-2": "value-2", "key-3": "value-3"}
	s.wantAll(s, want)
	s.reopen()
	s.wantAll(s, want)
}

func resultIsTheCallers(s *store) {
	s.put("k", "value")
	got, err := s.Get(nil, []byte("k"))
	s.must(err)
	scribble(got)
	s.put("other", "value")
	s.want(s, "k", "value")
	got, err = s.Get(got[:0], []byte("k"))
	s.must(err)
	s.put("k", "VALUE")
	if string(got) != "value" {
		s.Fatalf("a result of Get changed to %q with a later Put", got)
	}
}

func scribble(p []byte) {
	for i := range p {
		p[i] = 'X'
	}
}

func deleteAbsent(s *store) {
	s.del("absent")
	s.put("k", "v")
	s.del("absent")
	s.del("kk")
	s.wantAll(s, map[string]string{"k": "v"})
	s.del("k")
	s.del("k")
	s.wantAbsent(s, "k")
	s.wantScan(s, nil, -1, nil)
}

func deleteThenPut(s *store) {
	for i := range 20 {
		s.put("k", fmt.Sprint(i))
		s.del("k")
		s.wantAbsent(s, "k")
	}
	s.reopen()
	s.wantAbsent(s, "k")
	s.put("k", "last")
	s.want(s, "k", "last")
}

// keyBytesOfBbolt is the longest key that an engine with the exception KeyOver32KiB must hold.
const keyBytesOfBbolt = 32768

func keySizes(s *store) {
	sizes := []int{0, 1, 7, 8, 9, 255, 256, 257, 1000, 1023, 1024, 1025, 4000, 4095, 4096, 4097, 8192, 16384, keyBytesOfBbolt}
	want := make(map[string]string)
	for _, size := range sizes {
		want[strings.Repeat("k", size)] = fmt.Sprint(size)
		want[string(pattern(size, uint64(size)))] = fmt.Sprint(size)
	}
	for key, value := range want {
		s.put(key, value)
	}
	long := []string{strings.Repeat("l", keyBytesOfBbolt+1), strings.Repeat("m", compat.MaxKeyBytes)}
	for _, key := range long {
		if s.excused(compat.KeyOver32KiB) {
			s.wantErr("Put of a long key", s.Put([]byte(key), nil), compat.ErrKeyTooLarge)
			s.wantAbsent(s, key)
			continue
		}
		s.put(key, "long")
		want[key] = "long"
	}
	s.wantAll(s, want)
	s.reopen()
	s.wantAll(s, want)
}

func keyTooLarge(s *store) {
	s.put("k", "v")
	key := bytes.Repeat([]byte("k"), compat.MaxKeyBytes+1)
	s.wantErr("Put", s.Put(key, []byte("v")), compat.ErrKeyTooLarge)
	s.wantErr("WriteBatch", s.WriteBatch([]compat.Op{putOp("before", "v"), {Key: key}, putOp("after", "v")}), compat.ErrKeyTooLarge)
	s.wantAbsent(s, string(key))
	s.must(s.Delete(key))
	s.wantScan(s, key, -1, nil)
	s.wantAll(s, map[string]string{"k": "v"})
}

func valueSizes(s *store) {
	sizes := []int{0, 1, 8, 63, 64, 65, 255, 256, 257, 1000, 4000, 4095, 4096, 4097, 8192, 65535, 65536, 65537,
		1<<20 - 1, 1 << 20, 1<<20 + 1}
	if effort.Now() >= effort.Full {
		sizes = append(sizes, 5<<20, 16<<20)
	}
	want := make(map[string]string)
	for i, size := range sizes {
		want[fmt.Sprintf("%09d", size)] = string(pattern(size, uint64(i)))
	}
	for key, value := range want {
		s.put(key, value)
	}
	s.wantAll(s, want)
	s.reopen()
	s.wantAll(s, want)
	for key := range want {
		s.del(key)
	}
	s.wantAll(s, nil)
}

func valueShrinksAndGrows(s *store) {
	want := make(map[string]string)
	for i := range 300 {
		size := int(pattern(1, uint64(i))[0]) << (i % 10)
		key := fmt.Sprint(i % 7)
		want[key] = string(pattern(size, uint64(i)))
		s.put(key, want[key])
		s.want(s, key, want[key])
	}
	s.wantAll(s, want)
}

// valueHuge tests a value of 64 MiB, or of 4 MiB in the short and the plain form.
func valueHuge(s *store) {
	huge := string(pattern(effort.Pick(4<<20, 4<<20, 64<<20, 64<<20), 1))
	s.put("before", "v")
	s.put("k", huge)
	s.want(s, "k", huge)
	s.reopen()
	s.wantAll(s, map[string]string{"before": "v", "k": huge})
	s.put("k", "small")
	s.want(s, "k", "small")
	s.write(putOp("k", huge[1:]), putOp("after", "v"))
	s.want(s, "k", huge[1:])
	s.del("k")
	s.wantAll(s, map[string]string{"before": "v", "after": "v"})
}
