package nvkvraft

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	"nvkv/internal/effort"
	"nvkv/kv"
)

func openState(t testing.TB, path string) *FSM {
	t.Helper()
	f, err := OpenFSM(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f
}

func newState(t testing.TB) *FSM { return openState(t, filepath.Join(effort.Dir(t), "state.nv")) }

// at is a time of the tests.
func at(second int) time.Time { return time.Unix(int64(1000+second), 0).UTC() }

// entryOf returns the entry of a command.
func entryOf(t testing.TB, index uint64, c Command) *raft.Log {
	t.Helper()
	b, err := c.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return &raft.Log{Index: index, Term: 1, Data: b}
}

func put(key, value string) Op { return Op{Kind: OpPut, Key: []byte(key), Value: []byte(value)} }

// all returns everything that a state's store holds, expiries too.
func all(t testing.TB, f *FSM) map[string]string {
	t.Helper()
	m := map[string]string{}
	err := f.with(func(db *kv.DB) error {
		return db.View(func(tx *kv.Tx) error {
			c := tx.Cursor()
			for c.Next() {
				m[string(c.Key())] = fmt.Sprintf("%q until %d", c.Value(), c.Expiry().UnixNano())
			}
			return c.Close()
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// randomCommand returns a command of a run that has few keys and much expiry.
func randomCommand(r *rand.Rand, second int) Command {
	key := func() []byte { return []byte{'a' + byte(r.IntN(12))} }
	c := Command{Time: at(second - r.IntN(3))} // leaders' clocks differ
	if r.IntN(3) == 0 {
		c.If = append(c.If, Condition{Key: key(), Absent: r.IntN(2) == 0, Value: []byte{byte('0' + r.IntN(2))}})
	}
	for range 1 + r.IntN(3) {
		o := Op{Kind: OpPut, Key: key(), Value: []byte{byte('0' + r.IntN(2))}}
		switch r.IntN(6) {
		case 0:
			o = Op{Kind: OpDelete, Key: key()}
		case 1:
			o = Op{Kind: OpDeleteRange, Key: key(), End: key()}
		case 2, 3:
			o.Expiry = at(second + r.IntN(8) - 2)
		}
		c.Do = append(c.Do, o)
	}
	if r.IntN(2) == 0 {
		c.Session, c.Request = 1+r.Uint64N(3), 1+r.Uint64N(40)
	}
	return c
}

func randomRun(t testing.TB, seed uint64, n int) (logs []*raft.Log) {
	r := rand.New(rand.NewPCG(seed, 77))
	for i := range n {
		c := Command{Time: at(i / 2), Register: true}
		if i >= 3 {
			c = randomCommand(r, i/2)
		}
		l := entryOf(t, uint64(i+1), c)
		if i >= 3 && r.IntN(9) == 0 {
			l.Type, l.Data = raft.LogConfiguration, nil
		}
		logs = append(logs, l)
	}
	return logs
}

// TestReplicasAgree applies the same entries in batches that differ, with a reopening, a replay
// and a snapshot on the way: results and stores are the same.
func TestReplicasAgree(t *testing.T) {
	for seed := range uint64(effort.Pick(2, 4, 30, 200)) {
		logs := randomRun(t, seed, 300)
		one := newState(t)
		var want []any
		for _, l := range logs {
			want = append(want, one.Apply(l))
		}
		r := rand.New(rand.NewPCG(seed, 78))
		path := filepath.Join(effort.Dir(t), "state.nv")
		two := openState(t, path)
		var got []any
		for at := 0; at < len(logs); {
			n := min(1+r.IntN(70), len(logs)-at)
			again := r.IntN(at + 1)
			two.ApplyBatch(logs[again:at]) // a replay changes nothing
			got = append(got, two.ApplyBatch(logs[at:at+n])...)
			at += n
			switch r.IntN(3) {
			case 0:
				if err := two.Close(); err != nil {
					t.Fatal(err)
				}
				two = openState(t, path)
			case 1:
				var b bytes.Buffer
				if err := two.WriteSnapshot(t.Context(), &b); err != nil {
					t.Fatal(err)
				}
				two = newState(t)
				path = two.path
				if err := two.Restore(reader(b.Bytes())); err != nil {
					t.Fatal(err)
				}
			}
		}
		for i := range want {
			if !reflect.DeepEqual(got[i], want[i]) {
				t.Fatalf("seed %d: entry %d: %+v, want %+v", seed, i+1, got[i], want[i])
			}
		}
		if a, b := all(t, one), all(t, two); !maps.Equal(a, b) {
			t.Fatalf("seed %d: the stores differ:\n%q\n%q", seed, a, b)
		}
	}
}

// TestExpiryByCommands: a replica's own clock plays no part.
func TestExpiryByCommands(t *testing.T) {
	f := newState(t)
	o := put("a", "1")
	o.Expiry = at(10)
	f.Apply(entryOf(t, 1, Command{Time: at(0), Do: []Op{o}}))
	if v, err := f.Get([]byte("a")); err != nil || string(v) != "1" {
		t.Fatal("before its time: ", v, err)
	}
	// Two commands in one batch: the first still sees the key, the second does not.
	seen := Condition{Key: []byte("a"), Value: []byte("1")}
	r := f.ApplyBatch([]*raft.Log{
		entryOf(t, 2, Command{Time: at(9), If: []Condition{seen}}),
		entryOf(t, 3, Command{Time: at(10), If: []Condition{seen}}),
		entryOf(t, 4, Command{Time: at(5), If: []Condition{seen}}), // an older clock turns nothing back
	})
	if !r[0].(Result).Held || r[1].(Result).Held || r[2].(Result).Held {
		t.Fatalf("%+v", r)
	}
	if _, err := f.Get([]byte("a")); !errors.Is(err, kv.ErrNotFound) {
		t.Fatal("after its time: ", err)
	}
	// A put whose time has passed removes the key.
	o.Expiry = at(3)
	f.ApplyBatch([]*raft.Log{entryOf(t, 5, Command{Time: at(5), Do: []Op{put("a", "2")}}), entryOf(t, 6, Command{Time: at(5), Do: []Op{o}})})
	if _, err := f.Get([]byte("a")); !errors.Is(err, kv.ErrNotFound) {
		t.Fatal("a put that was over: ", err)
	}
}

// TestExpiryFarAway: the times that nanoseconds cannot name. A value that is to live until then
// lives for ever.
func TestExpiryFarAway(t *testing.T) {
	f := newState(t)
	for i, c := range []struct {
		expiry time.Time
		there  bool
	}{
		{time.Time{}, true},
		{time.Date(2261, 1, 1, 0, 0, 0, 0, time.UTC), true},
		{time.Date(2300, 1, 1, 0, 0, 0, 0, time.UTC), true},
		{time.Date(9000, 1, 1, 0, 0, 0, 0, time.UTC), true},
		{time.Unix(0, 0), false},
		{time.Date(1600, 1, 1, 0, 0, 0, 0, time.UTC), false},
	} {
		o := put("k", "v")
		o.Expiry = c.expiry
		if r := f.Apply(entryOf(t, uint64(i+1), Command{Time: at(1), Do: []Op{o}})).(Result); r.Err != nil {
			t.Fatal(r.Err)
		}
		if _, err := f.Get([]byte("k")); (err == nil) != c.there {
			t.Errorf("until %v: %v", c.expiry, err)
		}
	}
}

func TestSessions(t *testing.T) {
	f := newState(t)
	index := uint64(0)
	do := func(c Command) Result {
		index++
		return f.Apply(entryOf(t, index, c)).(Result)
	}
	s := do(Command{Time: at(0), Register: true}).Index
	add := func(request uint64, key string) Result {
		absent := Condition{Key: []byte(key), Absent: true}
		return do(Command{Time: at(1), Session: s, Request: request, If: []Condition{absent}, Do: []Op{put(key, "x")}})
	}
	first := add(1, "a")
	if !first.Held {
		t.Fatalf("%+v", first)
	}
	if again := add(1, "a"); again != first {
		t.Fatalf("a retry: %+v, want %+v", again, first)
	}
	if second := add(2, "a"); second.Held || second.Err != nil {
		t.Fatalf("another request: %+v", second)
	}
	if late := add(1, "b"); late.Err != ErrRequest {
		t.Fatalf("an old request: %+v", late)
	}
	if unknown := do(Command{Time: at(1), Session: 999, Request: 1, Do: []Op{put("c", "x")}}); unknown.Err != ErrSession {
		t.Fatalf("a session that nobody made: %+v", unknown)
	}
	hours := at(int((2 * time.Hour).Seconds()))
	if gone := do(Command{Time: hours, Session: s, Request: 3, Do: []Op{put("c", "x")}}); gone.Err != ErrSession {
		t.Fatalf("a session that expired: %+v", gone)
	}
	if m := all(t, f); len(m) != 2 { // "a" and the mark
		t.Fatalf("%q", m)
	}
}

func TestBadCommands(t *testing.T) {
	f := newState(t)
	long := bytes.Repeat([]byte("k"), MaxKeyBytes+1)
	if _, err := (&Command{Do: []Op{{Kind: OpPut, Key: long}}}).Encode(); !errors.Is(err, ErrCommand) {
		t.Fatal(err)
	}
	if r := f.Apply(&raft.Log{Index: 1, Data: []byte("nonsense")}).(Result); !errors.Is(r.Err, ErrCommand) {
		t.Fatalf("%+v", r)
	}
	if f.Applied() != 1 || f.Failure() != nil {
		t.Fatal("a bad command stops the state machine")
	}
	if _, err := (&Command{Session: 1, Do: []Op{put("a", "")}}).Encode(); !errors.Is(err, ErrCommand) {
		t.Fatalf("request 0: %v", err)
	}
	longest := Op{Kind: OpDeleteRange, Key: long[:MaxKeyBytes], End: long[:MaxKeyBytes]}
	if r := f.Apply(entryOf(t, 2, Command{Do: []Op{longest, {Kind: OpPut, Key: long[:MaxKeyBytes]}}})).(Result); !r.Held {
		t.Fatalf("%+v", r)
	}
}

func TestEvents(t *testing.T) {
	f := newState(t)
	f.ApplyBatch([]*raft.Log{
		entryOf(t, 1, Command{Do: []Op{put("a", "1"), put("b", "2")}}),
		entryOf(t, 2, Command{Do: []Op{{Kind: OpDelete, Key: []byte("a")}}}),
	})
	events, upTo, err := f.Events(t.Context(), 0)
	if err != nil || upTo != 2 || len(events) != 3 || events[2].Index != 2 || events[2].Kind != OpDelete {
		t.Fatalf("%+v up to %d, %v", events, upTo, err)
	}
	done := make(chan error)
	go func() {
		events, _, err := f.Events(t.Context(), 2)
		if err == nil && (len(events) != 1 || events[0].Index != 3) {
			err = fmt.Errorf("%+v", events)
		}
		done <- err
	}()
	f.Apply(entryOf(t, 3, Command{Do: []Op{put("c", "3")}}))
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	f.events.limit = 200
	f.Apply(entryOf(t, 4, Command{Do: []Op{put("d", "4")}}))
	if _, _, err := f.Events(t.Context(), 0); err != ErrCompacted {
		t.Fatal(err)
	}
	if events, _, err := f.Events(t.Context(), 2); err != nil || len(events) != 2 {
		t.Fatalf("%+v, %v", events, err)
	}
}

func FuzzCommand(f *testing.F) {
	r := rand.New(rand.NewPCG(1, 1))
	for i := range 8 {
		c := randomCommand(r, i)
		b, _ := c.Encode()
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := DecodeCommand(b)
		if err != nil {
			return
		}
		again, err := c.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if c2, err := DecodeCommand(again); err != nil || !reflect.DeepEqual(c2, c) {
			t.Fatalf("%v: %+v, want %+v", err, c2, c)
		}
	})
}
