package socket

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// place returns a short path for a socket: the directories of testing may be too long.
func place(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "sock")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return filepath.Join(dir, "s")
}

func serve(t *testing.T, path string, h Handler) *Server {
	t.Helper()
	s, err := Listen(path, h)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// TestAnswers checks that data, events, the result and errors arrive, in order.
func TestAnswers(t *testing.T) {
	path := place(t)
	big := bytes.Repeat([]byte("0123456789"), 30_000)
	serve(t, path, func(_ context.Context, q *Request, out *Reply) (any, error) {
		switch q.Op {
		case OpGet:
			return nil, &CodedError{"not_found", "no " + string(q.Key)}
		case OpCheck:
			return nil, errors.New("plain")
		}
		out.Event(Issue{Off: 1})
		out.Write(big[:100])
		out.Write(big[100:])
		out.Event(Issue{Off: 2})
		return Progress{Done: int64(q.Limit)}, nil
	})
	var data bytes.Buffer
	var offs []uint64
	a := Answer{Data: &data, Event: func(p json.RawMessage) error {
		var i Issue
		err := json.Unmarshal(p, &i)
		offs = append(offs, i.Off, uint64(data.Len()))
		return err
	}}
	result, err := Ask(t.Context(), path, &Request{Op: OpScan, Limit: 7}, a)
	if want := `{"done":7,"total":0,"bytes":0,"took_ns":0}`; err != nil || string(result) != want {
		t.Errorf("result %s, %v; want %s", result, err, want)
	}
	if !bytes.Equal(data.Bytes(), big) || fmt.Sprint(offs) != "[1 0 2 300000]" {
		t.Errorf("%d bytes, events at %v", data.Len(), offs)
	}
	coded := new(CodedError)
	if _, err := Ask(t.Context(), path, &Request{Op: OpGet, Key: []byte("k")}, a); !errors.As(err, &coded) || *coded != (CodedError{"not_found", "no k"}) {
		t.Errorf("an error with a code arrives as %v", err)
	}
	if _, err := Ask(t.Context(), path, &Request{Op: OpCheck}, a); !errors.As(err, &coded) || *coded != (CodedError{"failed", "plain"}) {
		t.Errorf("an error without a code arrives as %v", err)
	}
	if _, err := Ask(t.Context(), path, &Request{Op: "drop"}, a); err == nil || !strings.Contains(err.Error(), `unknown operation "drop"`) {
		t.Errorf("an unknown operation: %v", err)
	}
	fi, err := os.Stat(path)
	if err != nil || fi.Mode() != fs.ModeSocket|0o600 {
		t.Errorf("the socket's mode is %v, %v", fi.Mode(), err)
	}
}

// TestClose checks that Close cancels answers under way, waits for them and removes the socket, and
// that the client says what happened.
func TestClose(t *testing.T) {
	path := place(t)
	began, ended := make(chan bool), atomic.Bool{}
	s := serve(t, path, func(ctx context.Context, _ *Request, _ *Reply) (any, error) {
		close(began)
		<-ctx.Done()
		ended.Store(true)
		return nil, ctx.Err()
	})
	asked := make(chan error)
	go func() {
		_, err := Ask(context.Background(), path, &Request{Op: OpCheck}, Answer{})
		asked <- err
	}()
	idle, err := net.Dial("unix", path) // sends nothing
	if err != nil {
		t.Fatal(err)
	}
	defer idle.Close()
	<-began
	if err := s.Close(); err != nil || !ended.Load() {
		t.Errorf("Close: %v, answer ended: %v", err, ended.Load())
	}
	if err := <-asked; err == nil {
		t.Error("an answer that was cut off is no error")
	}
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the socket after Close: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Errorf("a second Close: %v", err)
	}
	if _, err := Ask(t.Context(), path, &Request{Op: OpCheck}, Answer{}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("asking nobody: %v", err)
	}
}

// TestClientGone checks that an answer is cancelled when its client goes away.
func TestClientGone(t *testing.T) {
	path := place(t)
	began, ended := make(chan bool), make(chan bool)
	serve(t, path, func(ctx context.Context, _ *Request, _ *Reply) (any, error) {
		close(began)
		<-ctx.Done()
		close(ended)
		return nil, ctx.Err()
	})
	ctx, cancel := context.WithCancel(t.Context())
	asked := make(chan error)
	go func() { _, err := Ask(ctx, path, &Request{Op: OpCheck}, Answer{}); asked <- err }()
	<-began
	cancel()
	if err := <-asked; !errors.Is(err, context.Canceled) {
		t.Errorf("a cancelled question: %v", err)
	}
	<-ended
}

// TestPlaces checks which files a server replaces, and what it says of the others.
func TestPlaces(t *testing.T) {
	path := place(t)
	h := func(context.Context, *Request, *Reply) (any, error) { return nil, nil }

	stale, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	stale.SetUnlinkOnClose(false)
	stale.Close() // as a killed process leaves it
	if _, err := Ask(t.Context(), path, &Request{Op: OpCheck}, Answer{}); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("asking a stale socket: %v", err)
	}
	first := serve(t, path, h)
	if _, err := Ask(t.Context(), path, &Request{Op: OpCheck}, Answer{}); err != nil {
		t.Errorf("a stale socket was not replaced: %v", err)
	}
	if _, err := Listen(path, h); err == nil || !strings.Contains(err.Error(), "answers there already") {
		t.Errorf("a socket that is in use: %v", err)
	}

	// A socket that somebody put in the place of the server's own stays.
	os.Remove(path)
	serve(t, path, h)
	first.Close()
	if _, err := Ask(t.Context(), path, &Request{Op: OpCheck}, Answer{}); err != nil {
		t.Errorf("the first server removed the socket of the second: %v", err)
	}

	file := place(t)
	if err := os.WriteFile(file, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(file, h); err == nil || !strings.Contains(err.Error(), "is no socket") {
		t.Errorf("a file: %v", err)
	}
	if b, _ := os.ReadFile(file); string(b) != "mine" {
		t.Errorf("the file holds %q now", b)
	}
	long := filepath.Join(filepath.Dir(file), strings.Repeat("x", 108))
	if _, err := Listen(long, h); err == nil || !strings.Contains(err.Error(), "at most") {
		t.Errorf("a long path: %v", err)
	}
	t.Chdir(filepath.Dir(file))
	serve(t, "@here", h)
	if _, err := os.Lstat("@here"); err != nil {
		t.Errorf("a name with @: %v", err)
	}
}

// TestRefusals checks what a server and a client say to bytes that are not the protocol.
func TestRefusals(t *testing.T) {
	path := place(t)
	serve(t, path, func(context.Context, *Request, *Reply) (any, error) { return 1, nil })
	later := header()
	later[6]++
	for what, sent := range map[string][]byte{
		"not the protocol of nvkv: it begins with": []byte("GET / HTTP/1.1\r\n\r\n"),
		"version 1 of the protocol, the client":    later,
		"a frame of kind 'd' instead of a request": appendFrame(header(), kindData, []byte("x")),
		"a frame of kind 'q' and 4294967295 bytes": append(header(), 'q', 255, 255, 255, 255),
		"bytes behind a request":                   appendFrame(header(), kindRequest, []byte(`{"op":"get"} {}`)),
		"unknown field":                            appendFrame(header(), kindRequest, []byte(`{"op":"get","force":true}`)),
	} {
		c, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		c.Write(sent)
		if _, err := readHeader(c); err != nil {
			t.Errorf("%s: no header: %v", what, err)
		}
		if _, err := receive(c, Answer{}); err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("want %q, got %v", what, err)
		}
		c.Close()
	}
	var conns []net.Conn
	for range maxConns {
		c, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		conns = append(conns, c)
	}
	if _, err := Ask(t.Context(), path, &Request{Op: OpCheck}, Answer{}); err == nil || !strings.Contains(err.Error(), "clients already") {
		t.Errorf("one client too many: %v", err)
	}
	for _, c := range conns {
		c.Close()
	}
	for try := 0; ; try++ { // the server notices that they have gone
		if _, err := Ask(t.Context(), path, &Request{Op: OpCheck}, Answer{}); err == nil {
			break
		} else if try == 5000 {
			t.Fatalf("after the others have gone: %v", err)
		}
		time.Sleep(time.Millisecond)
	}
}

// TestSilentServer checks that a client does not wait for ever for a process that does not answer.
func TestSilentServer(t *testing.T) {
	path := place(t)
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	defer func(d time.Duration) { helloWait = d }(helloWait)
	helloWait = 10 * time.Millisecond
	if _, err := Ask(t.Context(), path, &Request{Op: OpCheck}, Answer{}); err == nil || !strings.Contains(err.Error(), "does not answer") {
		t.Errorf("a process that is stopped: %v", err)
	}
}

func records(t testing.TB, all []byte, chunk int) (out []string, err error) {
	r := Records{Each: func(k, v []byte, expiry int64) error {
		out = append(out, fmt.Sprintf("%q %q %d", k, v, expiry))
		return nil
	}}
	for len(all) > 0 && err == nil {
		n := min(chunk, len(all))
		_, err = r.Write(all[:n])
		all = all[n:]
	}
	return out, errors.Join(err, r.End())
}

func TestRecords(t *testing.T) {
	all := append(AppendRecordHead(nil, []byte("key"), 5, -1), "value"...)
	all = AppendRecordHead(all, nil, 0, 9)
	for _, chunk := range []int{1, 3, 1000} {
		got, err := records(t, all, chunk)
		if fmt.Sprint(got) != `["key" "value" -1 "" "" 9]` || err != nil {
			t.Errorf("in chunks of %d: %v, %v", chunk, got, err)
		}
	}
	if _, err := records(t, all[:len(all)-1], 1000); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("a stream that is cut: %v", err)
	}
	if _, err := records(t, AppendRecordHead(nil, nil, MaxValueBytes+1, 0), 1000); !errors.Is(err, errProtocol) {
		t.Errorf("a value that is too large: %v", err)
	}
}

// FuzzServer gives a server any bytes: it answers or refuses, and asks for no more than it may.
func FuzzServer(f *testing.F) {
	for _, q := range []Request{{Op: OpStatus}, {Op: OpScan, Start: []byte("a"), Limit: 3}} {
		b, _ := textFrame(kindRequest, q)
		f.Add(append(header(), b...))
	}
	f.Add([]byte("NVKVS\x00\x02\x00"))
	f.Add(append(header(), 'q', 255, 255, 255, 255))
	f.Fuzz(func(t *testing.T, in []byte) {
		q, err := greet(&oneWay{Reader: bytes.NewReader(in)})
		if (q == nil) == (err == nil) {
			t.Fatalf("request %v, error %v", q, err)
		}
		if q != nil && (len(q.Command) > maxCommandBytes || len(q.Key)+len(q.Start)+len(q.End) > MaxRequestBytes) {
			t.Fatalf("a request that is too large: %+v", q)
		}
	})
}

// oneWay is a connection from which the bytes of a reader come.
type oneWay struct {
	net.Conn
	io.Reader
}

func (c *oneWay) Read(p []byte) (int, error)  { return c.Reader.Read(p) }
func (c *oneWay) Write(p []byte) (int, error) { return len(p), nil }

// FuzzClient gives a client any bytes: it ends with a result or an error.
func FuzzClient(f *testing.F) {
	all := append(AppendRecordHead(nil, []byte("key"), 5, -1), "value"...)
	f.Add(appendFrame(appendFrame(nil, kindData, all), kindResult, []byte("null")))
	f.Add(appendFrame(nil, kindError, []byte(`{"code":"x","message":"y"}`)))
	f.Fuzz(func(t *testing.T, in []byte) {
		n := 0
		r := Records{Each: func(k, v []byte, _ int64) error { n += len(k) + len(v); return nil }}
		result, err := receive(bytes.NewReader(in), Answer{Data: &r, Event: func(json.RawMessage) error { return nil }})
		if (result == nil) == (err == nil) || n > len(in) {
			t.Fatalf("result %q, error %v, %d bytes out of %d", result, err, n, len(in))
		}
	})
}
