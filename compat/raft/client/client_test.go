package client_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"nvkv/compat/raft/client"
	"nvkv/compat/raft/server"
)

// fake is a node that answers as a test says and notes what it was asked. It makes sessions by
// itself.
type fake struct {
	*httptest.Server
	mu       sync.Mutex
	answers  []func(w http.ResponseWriter) // one for each request but for sessions, the last for all others
	asked    []string
	sessions int
}

func newFake(t *testing.T, answers ...func(w http.ResponseWriter)) *fake {
	f := &fake{answers: answers}
	f.Server = httptest.NewServer(f)
	t.Cleanup(f.Server.Close)
	return f
}

func (f *fake) address() string { return strings.TrimPrefix(f.URL, "http://") }

func (f *fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if r.URL.Path == "/v1/session" {
		f.sessions++
		fmt.Fprintf(w, `{"session":%d}`, 10*f.sessions)
		return
	}
	ask := r.Method + " " + r.URL.Path
	if s := r.Header.Get(server.SessionHeader); s != "" {
		ask = fmt.Sprintf("%s %s.%s", r.Method, s, r.Header.Get(server.RequestHeader))
	}
	f.asked = append(f.asked, ask)
	answer := f.answers[0]
	if len(f.answers) > 1 {
		f.answers = f.answers[1:]
	}
	answer(w)
}

// saw compares what the node was asked.
func (f *fake) saw(t *testing.T, want ...string) {
	t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	if !slices.Equal(f.asked, want) {
		t.Errorf("it was asked %q, want %q", f.asked, want)
	}
}

func code(code int, body string) func(w http.ResponseWriter) {
	return func(w http.ResponseWriter) {
		w.WriteHeader(code)
		fmt.Fprint(w, body)
	}
}

// elsewhere answers as a follower does.
func elsewhere(leader func() string) func(w http.ResponseWriter) {
	return func(w http.ResponseWriter) {
		w.Header().Set(server.LeaderHeader, leader())
		w.WriteHeader(http.StatusMisdirectedRequest)
	}
}

// broken ends the connection without an answer.
func broken(http.ResponseWriter) { panic(http.ErrAbortHandler) }

var held = code(200, `{"held":true,"index":7}`)

func newClient(t *testing.T, nodes ...*fake) *client.Client {
	var at []string
	for _, n := range nodes {
		at = append(at, n.address())
	}
	c := client.New(at, client.Options{})
	t.Cleanup(c.Close)
	return c
}

const aPath = "/v1/kv/YQ" // of the key "a"

func TestFindsTheLeader(t *testing.T) {
	leader := newFake(t, code(200, "1"))
	follower := newFake(t, elsewhere(leader.address))
	dead := newFake(t, broken)
	dead.Server.Close()
	c := newClient(t, dead, follower)
	for range 2 {
		if v, err := c.Get(t.Context(), []byte("a")); err != nil || string(v) != "1" {
			t.Fatalf("%q, %v", v, err)
		}
	}
	follower.saw(t, "GET "+aPath)
	leader.saw(t, "GET "+aPath, "GET "+aPath)
}

// TestFollowersThatDisagree: nodes that name each other as leader are asked until the context ends.
func TestFollowersThatDisagree(t *testing.T) {
	var one, two *fake
	one = newFake(t, elsewhere(func() string { return two.address() }))
	two = newFake(t, elsewhere(func() string { return one.address() }), elsewhere(func() string { return one.address() }), code(200, "1"))
	c := newClient(t, one, two)
	if v, err := c.Get(t.Context(), []byte("a")); err != nil || string(v) != "1" {
		t.Fatalf("%q, %v", v, err)
	}
}

func TestAnswers(t *testing.T) {
	for _, a := range []struct {
		answer func(http.ResponseWriter)
		ok     bool
		want   string
	}{
		{code(200, "1"), true, "1"},
		{code(200, ""), true, ""},
		{code(404, `{"error":"no"}`), false, client.ErrNotFound.Error()},
		{code(400, `{"error":"what is that"}`), false, "what is that"},
		{code(401, `{"error":"a token is needed"}`), false, "a token is needed"},
		{code(500, "nonsense"), false, "HTTP 500: nonsense"},
	} {
		c := newClient(t, newFake(t, code(503, ""), broken, a.answer))
		v, err := c.Get(t.Context(), []byte("a"))
		if a.ok != (err == nil) || a.ok && string(v) != a.want || !a.ok && err.Error() != a.want {
			t.Errorf("%q, %v; want %q", v, err, a.want)
		}
	}
}

// TestWritesKeepTheirNumbers: a write that is sent again has the same session and request, and one
// that comes later has the next.
func TestWritesKeepTheirNumbers(t *testing.T) {
	f := newFake(t, code(504, `{"unknown":true}`), broken, code(503, ""), held)
	c := newClient(t, f)
	for range 2 {
		if err := c.Put(t.Context(), []byte("a"), []byte("1"), 0); err != nil {
			t.Fatal(err)
		}
	}
	if swapped, err := c.CompareAndSwap(t.Context(), []byte("a"), nil, []byte("1")); err != nil || !swapped {
		t.Fatal(swapped, err)
	}
	f.saw(t, "PUT 10.1", "PUT 10.1", "PUT 10.1", "PUT 10.1", "PUT 10.2", "POST 10.3")
}

// TestSessionExpiredUnused: where the first attempt of a write hears that its session has expired,
// nothing was carried out, and the write goes on in a new session.
func TestSessionExpiredUnused(t *testing.T) {
	f := newFake(t, held, code(409, `{"error":"session has expired","unknown":true}`), held)
	c := newClient(t, f)
	for range 2 {
		if err := c.Put(t.Context(), []byte("a"), []byte("1"), 0); err != nil {
			t.Fatal(err)
		}
	}
	f.saw(t, "PUT 10.1", "PUT 10.2", "PUT 20.1")
}

// TestSessionExpiredInBetween: where an attempt came before, it may have been carried out.
func TestSessionExpiredInBetween(t *testing.T) {
	for name, first := range map[string]func(http.ResponseWriter){"no answer": broken, "unknown": code(504, "")} {
		f := newFake(t, held, first, code(409, `{"error":"session has expired","unknown":true}`), held)
		c := newClient(t, f)
		put := func() error { return c.Put(t.Context(), []byte("a"), []byte("1"), 0) }
		if err := put(); err != nil {
			t.Fatal(err)
		}
		if err := put(); !errors.Is(err, client.ErrUnknown) {
			t.Errorf("%s: %v", name, err)
		}
		if err := put(); err != nil {
			t.Fatal(err)
		}
		f.saw(t, "PUT 10.1", "PUT 10.2", "PUT 10.2", "PUT 20.1")
	}
}

// TestContextEnds: a write that was sent has an unknown outcome then, and its session is not used
// again; a read has failed.
func TestContextEnds(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	f := newFake(t, func(w http.ResponseWriter) { cancel(); w.WriteHeader(503) }, held)
	c := newClient(t, f)
	if err := c.Put(ctx, []byte("a"), nil, 0); !errors.Is(err, client.ErrUnknown) || !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	if _, err := c.Get(ctx, []byte("a")); !errors.Is(err, context.Canceled) || errors.Is(err, client.ErrUnknown) {
		t.Fatal(err)
	}
	if err := c.Delete(t.Context(), []byte("a")); err != nil {
		t.Fatal(err)
	}
	f.saw(t, "PUT 10.1", "DELETE 20.1")
}

func TestScanPages(t *testing.T) {
	page := func(next string, keys ...string) func(http.ResponseWriter) {
		p := server.Page{Next: next}
		for _, k := range keys {
			p.Items = append(p.Items, server.Item{Key: k, Value: "MQ==", Base64: true})
		}
		b, _ := json.Marshal(p)
		return code(200, string(b))
	}
	scan := func(f *fake) (seen []string, err error) {
		c := newClient(t, f)
		err = c.Scan(t.Context(), nil, []byte("z"), 2, func(k, v []byte) bool {
			seen = append(seen, string(k)+"="+string(v))
			return len(seen) < 4
		})
		return seen, err
	}
	seen, err := scan(newFake(t, page("Yw==", "YQ==", "Yg=="), page("ZQ==", "Yw==", "ZA=="), broken))
	if err != nil || strings.Join(seen, " ") != "a=1 b=1 c=1 d=1" {
		t.Errorf("%q, %v", seen, err)
	}
	for _, bad := range []func(http.ResponseWriter){code(200, "nonsense"), code(500, ""), page("", "not base64"), page("not base64", "YQ==")} {
		if _, err := scan(newFake(t, bad)); err == nil {
			t.Error("a bad page is no error")
		}
	}
}
