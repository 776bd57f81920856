package kv

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"nvkv/internal/socket"
	"nvkv/nvmap"
)

// newServed returns a store that answers by a socket, and the path of the socket.
func newServed(t *testing.T, o Options) (*DB, string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "nvkv") // short: the directories of testing may be too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	o.Socket = AutoSocket
	path := filepath.Join(dir, "s.nv")
	db, err := Open(path, &o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return db, path + SocketSuffix
}

type sent struct{ k, v string }

// asked asks a socket for records.
func asked(t *testing.T, at string, q socket.Request) (out []sent) {
	t.Helper()
	r := socket.Records{Each: func(k, v []byte, _ int64) error {
		out = append(out, sent{string(k), string(v)})
		return nil
	}}
	_, err := socket.Ask(t.Context(), at, &q, socket.Answer{Data: &r})
	if err := errors.Join(err, r.End()); err != nil {
		t.Errorf("%+v: %v", q, err)
	}
	return out
}

// TestSocketAnswers checks each answer against the method that it stands for.
func TestSocketAnswers(t *testing.T) {
	db, at := newServed(t, Options{Progress: func(p Progress) { t.Errorf("the owner is told of the %s of another process", p.Op) }})
	big := bytes.Repeat([]byte("large "), 50_000)
	for i := range 300 {
		if err := db.Put(fmt.Appendf(nil, "key%03d", i), fmt.Append(nil, i)); err != nil {
			t.Fatal(err)
		}
	}
	expiry := time.Now().Add(time.Hour)
	if err := errors.Join(db.Put([]byte("big"), big), db.PutUntil([]byte("brief"), nil, expiry)); err != nil {
		t.Fatal(err)
	}

	b := func(s string) []byte { return []byte(s) }
	for _, c := range []struct {
		q                  socket.Request
		n                  int
		first, last, value string
	}{
		{socket.Request{}, 302, "big", "key299", "299"},
		{socket.Request{Start: b("key"), Limit: 10}, 10, "key000", "key009", "9"},
		{socket.Request{Start: b("key"), Limit: 10, KeysOnly: true}, 10, "key000", "key009", ""},
		{socket.Request{Start: b("key100"), End: b("key200"), Bounded: true}, 100, "key100", "key199", "199"},
		{socket.Request{Start: b("key100"), End: b("key200"), Bounded: true, Reverse: true}, 100, "key199", "key100", "100"},
		{socket.Request{Start: b("key100"), End: b("key200"), Bounded: true, KeysOnly: true}, 100, "key100", "key199", ""},
		{socket.Request{Reverse: true, Limit: 2, KeysOnly: true}, 2, "key299", "key298", ""},
		{socket.Request{Bounded: true}, 0, "", "", ""},
		{socket.Request{Bounded: true, KeysOnly: true}, 0, "", "", ""},
		{socket.Request{Bounded: true, Reverse: true}, 0, "", "", ""},
	} {
		c.q.Op = socket.OpScan
		got := asked(t, at, c.q)
		if len(got) != c.n || c.n > 0 && (got[0].k != c.first || got[c.n-1] != sent{c.last, c.value}) {
			t.Errorf("%+v: %d records, %.60q", c.q, len(got), got)
		}
	}
	if got := asked(t, at, socket.Request{Op: socket.OpGet, Key: b("big")}); len(got) != 1 || got[0].v != string(big) {
		t.Errorf("a large value: %d records", len(got))
	}

	var stream bytes.Buffer
	event := func(json.RawMessage) error { return nil }
	p := socket.Progress{}
	ask := func(op string, a socket.Answer) {
		t.Helper()
		p = socket.Progress{}
		result, err := socket.Ask(t.Context(), at, &socket.Request{Op: op}, a)
		if err != nil {
			t.Fatalf("%s: %v", op, err)
		}
		if err := json.Unmarshal(result, &p); err != nil {
			t.Fatalf("%s: %v", op, err)
		}
	}
	ask(socket.OpBackup, socket.Answer{Data: &stream, Event: event})
	if p.Done != 302 || p.Bytes != int64(stream.Len()) {
		t.Errorf("backup: %+v, of %d bytes", p, stream.Len())
	}
	copied := filepath.Join(t.TempDir(), "copy.nv")
	if err := Restore(t.Context(), copied, &stream, nil); err != nil {
		t.Fatal(err)
	}
	other, err := Open(copied, nil)
	if err != nil {
		t.Fatal(err)
	}
	if at, err := other.Expiry(b("brief")); err != nil || !at.Equal(expiry) {
		t.Errorf("the expiry in the copy is %v, %v; want %v", at, err, expiry)
	}
	if err := other.Close(); err != nil {
		t.Fatal(err)
	}
	ask(socket.OpCheck, socket.Answer{Event: func(i json.RawMessage) error { t.Errorf("issue: %s", i); return nil }})
	if p.Done != 302 {
		t.Errorf("check: %+v", p)
	}
	moved := db.Metrics().EvacuatedRecords
	ask(socket.OpCompact, socket.Answer{Event: event})
	if want := db.Metrics().EvacuatedRecords - moved; p.Done != 302 || p.Moved != int64(want) {
		t.Errorf("compact: %+v, moved %d", p, want)
	}
}

// TestSocketStatus checks that a status tells who holds which snapshot.
func TestSocketStatus(t *testing.T) {
	db, at := newServed(t, Options{})
	if err := db.Put([]byte("k"), []byte("v")); err != nil {
		t.Fatal(err)
	}
	tx, err := db.Begin(false)
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback()
	result, err := socket.Ask(t.Context(), at, &socket.Request{Op: socket.OpStatus}, socket.Answer{})
	if err != nil {
		t.Fatal(err)
	}
	var st socket.Status
	var m Metrics
	var snaps []SnapshotInfo
	var info nvmap.Info
	for _, e := range []error{json.Unmarshal(result, &st), json.Unmarshal(st.Metrics, &m), json.Unmarshal(st.Snapshots, &snaps), json.Unmarshal(st.Device, &info)} {
		if e != nil {
			t.Fatal(e)
		}
	}
	if st.Pid != os.Getpid() || st.Path+SocketSuffix != at || m.Keys != 1 || m.Puts != 1 || info.Kind != db.Info().Kind || st.Format != FormatVersion {
		t.Errorf("status %s", result)
	}
	if len(snaps) != 1 || !strings.HasPrefix(snaps[0].By, "nvkv/kv.TestSocketStatus at ") || snaps[0].Writer {
		t.Errorf("snapshots %+v", snaps)
	}

	// A client whose scan is under way is named too.
	var seen []SnapshotInfo
	r := socket.Records{Each: func(k, v []byte, _ int64) error { return nil }}
	for i := range 2000 {
		if err := db.Put(fmt.Append(nil, i), make([]byte, 1000)); err != nil {
			t.Fatal(err)
		}
	}
	_, err = socket.Ask(t.Context(), at, &socket.Request{Op: socket.OpScan, Command: "a test"}, socket.Answer{Data: writerFunc(func(p []byte) (int, error) {
		if seen == nil { // most of the scan is still to come: it waits for this
			seen = db.Snapshots()
		}
		return r.Write(p)
	})})
	if err != nil {
		t.Fatal(err)
	}
	if want := fmt.Sprintf("process %d, \"a test\", by the socket", os.Getpid()); len(seen) != 2 || runtime.GOOS == "linux" && seen[1].By != want {
		t.Errorf("snapshots %+v; want the second by %s", seen, want)
	}
}

// TestSocketErrors checks that each kind of error of a store keeps its kind on its way, and that
// the socket of a store that is closed is gone, with every goroutine.
func TestSocketErrors(t *testing.T) {
	before := runtime.NumGoroutine()
	db, at := newServed(t, Options{})
	wantCode := func(code string, op string) {
		t.Helper()
		coded := new(socket.CodedError)
		if _, err := socket.Ask(t.Context(), at, &socket.Request{Op: op, Key: []byte("no")}, socket.Answer{}); !errors.As(err, &coded) || coded.Code != code {
			t.Errorf("%s: %v, want the code %s", op, err, code)
		}
	}
	wantCode("not_found", socket.OpGet)
	db.closed.Store(true)
	for _, op := range []string{socket.OpGet, socket.OpScan, socket.OpStatus, socket.OpBackup, socket.OpCheck, socket.OpCompact} {
		wantCode("closed", op)
	}
	db.closed.Store(false)
	for _, c := range socketCodes {
		var got *socket.CodedError
		if !errors.As(coded(fmt.Errorf("x: %w", c.err)), &got) || got.Code != c.code {
			t.Errorf("%v has the code %v", c.err, got)
		}
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(at); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the socket after Close: %v", err)
	}
	for try := 0; runtime.NumGoroutine() > before; try++ { // those of the client may still be ending
		if try == 5000 {
			all := make([]byte, 1<<20)
			t.Fatalf("%d goroutines, %d before:\n%s", runtime.NumGoroutine(), before, all[:runtime.Stack(all, true)])
		}
		time.Sleep(time.Millisecond)
	}
}

// TestSocketClose checks that Close does not wait for a client that does not read.
func TestSocketClose(t *testing.T) {
	db, at := newServed(t, Options{})
	if err := db.Put([]byte("k"), make([]byte, 4<<20)); err != nil {
		t.Fatal(err)
	}
	for _, op := range []string{socket.OpScan, socket.OpBackup} {
		began := make(chan bool)
		release := make(chan bool)
		ended := make(chan error)
		go func() {
			n := 0
			_, err := socket.Ask(context.Background(), at, &socket.Request{Op: op}, socket.Answer{Data: writerFunc(func(p []byte) (int, error) {
				if n++; n == 1 {
					close(began)
					<-release
				}
				return len(p), nil
			}), Event: func(json.RawMessage) error { return nil }})
			ended <- err
		}()
		<-began
		if op == socket.OpBackup {
			if err := db.Close(); err != nil {
				t.Errorf("Close beside a client that does not read: %v", err)
			}
		}
		close(release)
		if err := <-ended; (err == nil) != (op == socket.OpScan) {
			t.Errorf("%s: %v", op, err)
		}
	}
}

// TestSocketRefusals checks which options are refused, before anything is made.
func TestSocketRefusals(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "s.nv")
	for says, o := range map[string]Options{
		"at most":               {Socket: filepath.Join(dir, strings.Repeat("x", 120))},
		"opened read-only":      {Socket: AutoSocket, ReadOnly: true},
		"the store has no path": {Socket: AutoSocket, Device: "mem"},
	} {
		name := path
		if o.Device == "mem" {
			name = ""
		}
		if db, err := Open(name, &o); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%+v: %v, %v", o, db, err)
		}
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	file := filepath.Join(dir, "f")
	if err := os.WriteFile(file, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(path, &Options{Socket: file}); err == nil || !strings.Contains(err.Error(), "no socket") {
		t.Errorf("a file in the place of the socket: %v", err)
	}
	db, err := Open(path, nil) // the refused opening holds no lock
	if err != nil {
		t.Fatal(err)
	}
	if by := db.openedBy(); by != nil {
		t.Error("without a socket callers are recorded")
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
}
