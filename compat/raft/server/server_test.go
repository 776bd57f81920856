package server_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"nvkv/compat/raft/client"
	"nvkv/compat/raft/node"
	"nvkv/compat/raft/server"
	"nvkv/internal/effort"
)

// one starts a cluster of one node and returns its address when it leads.
func one(t *testing.T, tokens ...server.Token) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	n, err := node.Open(node.Config{ID: "n0", Dir: effort.Dir(t), Listener: l, Bootstrap: true, Heartbeat: 100 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	s := server.New(n, tokens)
	h := &http.Server{Handler: s}
	go h.Serve(n.Clients())
	t.Cleanup(func() {
		s.Close()
		_ = h.Close()
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	})
	for begun := time.Now(); n.Status().State != "Leader"; time.Sleep(5 * time.Millisecond) {
		if time.Since(begun) > effort.Hang {
			t.Fatal("the node does not lead")
		}
	}
	return l.Addr().String()
}

// ask sends a request and returns the status and the body. It tries again while the node says
// that it is not ready.
func ask(t *testing.T, method, url, body string, header ...string) (int, string) {
	t.Helper()
	for begun := time.Now(); ; time.Sleep(5 * time.Millisecond) {
		r, err := http.NewRequest(method, "http://"+url, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		for i := 0; i < len(header); i += 2 {
			r.Header.Set(header[i], header[i+1])
		}
		res, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(res.Body)
		res.Body.Close()
		if err != nil {
			t.Fatal(err)
		}
		if res.StatusCode != http.StatusServiceUnavailable || time.Since(begun) > effort.Hang {
			return res.StatusCode, strings.TrimSpace(string(b))
		}
	}
}

func TestRequests(t *testing.T) {
	at := one(t)
	for i, c := range []struct {
		method, path, body string
		code               int
		want               string
	}{
		{"GET", "/v1/kv/a", "", 404, `"error":`},
		{"PUT", "/v1/kv/a", "1", 200, `"held":true`},
		{"GET", "/v1/kv/a", "", 200, `1`},
		{"GET", "/v1/kv/a?read=lease", "", 200, `1`},
		{"GET", "/v1/kv/a?read=stale", "", 200, `1`},
		{"GET", "/v1/kv/a?read=perhaps", "", 400, `perhaps`},
		{"PUT", "/v1/kv/dir/b%20c?ttl=1h", "x", 200, ``},
		{"PUT", "/v1/kv/a?ttl=-1s", "x", 400, `ttl`},
		{"GET", "/v1/kv/dir/b%20c", "", 200, `x`},
		{"PUT", "/v1/kv/", "empty", 200, ``},
		{"POST", "/v1/cas", `{"key":"a","old":"2","new":"3"}`, 200, `"held":false`},
		{"POST", "/v1/cas", `{"key":"a","old":"1","new":"3"}`, 200, `"held":true`},
		{"POST", "/v1/cas", `{"key":"a","absent":true,"new":"4"}`, 200, `"held":false`},
		{"POST", "/v1/cas", `{"kee":"a"}`, 400, `kee`},
		{"POST", "/v1/batch", `{"if":[{"key":"a","value":"3"}],"do":[{"op":"put","key":"b","value":"1"},{"op":"put","key":"c","value":"2","ttl":"1h"},{"op":"delete","key":"a"}]}`, 200, `"held":true`},
		{"POST", "/v1/batch", `{"do":[{"op":"swap","key":"a"}]}`, 400, `swap`},
		{"GET", "/v1/scan?start=a", "", 200, `{"items":[{"key":"b","value":"1"},{"key":"c","value":"2"},{"key":"dir/b c","value":"x"}],"index":`},
		{"GET", "/v1/scan?limit=2", "", 200, `"next":"c"`},
		{"GET", "/v1/scan?prefix=dir/", "", 200, `{"items":[{"key":"dir/b c","value":"x"}],"index":`},
		{"GET", "/v1/scan?prefix=b&end=a", "", 200, `{"items":[],"index":`},
		{"GET", "/v1/scan?prefix=b&base64=1", "", 400, `base64`},
		{"POST", "/v1/batch", `{"do":[{"op":"delete_range","key":"b","end":"d"}]}`, 200, ``},
		{"GET", "/v1/scan?start=a", "", 200, `{"items":[{"key":"dir/b c","value":"x"}],"index":`},
		{"DELETE", "/v1/kv/dir/b%20c", "", 200, ``},
		{"POST", "/v1/snapshot", "", 200, ``},
		{"GET", "/v1/status", "", 200, `"state":"Leader"`},
		{"GET", "/v1/metrics", "", 200, `"log":{`},
		{"GET", "/v1/health", "", 200, `"leader":true`},
		{"POST", "/v1/restore", "no backup", 400, `snapshot`},
		{"GET", "/v1/nothing", "", 404, ``},
	} {
		if code, body := ask(t, c.method, at+c.path, c.body); code != c.code || !strings.Contains(body, c.want) {
			t.Errorf("%d: %s %s: %d %s; want %d %s", i, c.method, c.path, code, body, c.code, c.want)
		}
	}
}

func TestTokens(t *testing.T) {
	at := one(t, server.Token{Secret: "one that reads", Role: server.Read}, server.Token{Secret: "one that writes", Role: server.Write}, server.Token{Secret: "one for all", Role: server.Admin})
	requests := []struct {
		method, path string
		codes        [3]int // of the tokens above
	}{
		{"GET", "/v1/kv/a", [3]int{404, 404, 404}},
		{"GET", "/v1/scan", [3]int{200, 200, 200}},
		{"GET", "/v1/backup", [3]int{200, 200, 200}},
		{"PUT", "/v1/kv/b", [3]int{403, 200, 200}},
		{"DELETE", "/v1/kv/b", [3]int{403, 200, 200}},
		{"POST", "/v1/session", [3]int{403, 200, 200}},
		{"POST", "/v1/batch", [3]int{403, 400, 400}}, // no body
		{"POST", "/v1/cas", [3]int{403, 400, 400}},
		{"POST", "/v1/snapshot", [3]int{403, 403, 200}},
		{"POST", "/v1/join", [3]int{403, 403, 400}},
		{"POST", "/v1/remove", [3]int{403, 403, 400}},
		{"POST", "/v1/transfer", [3]int{403, 403, 400}},
		{"POST", "/v1/restore", [3]int{403, 403, 400}},
	}
	for _, c := range requests {
		for _, header := range []string{"", "Bearer", "Bearer ", "Bearer nonsense", "one for all", "bearer one for all"} {
			if code, body := ask(t, c.method, at+c.path, "", "Authorization", header); code != 401 {
				t.Errorf("%s %s, %q: %d %s", c.method, c.path, header, code, body)
			}
		}
		for i, token := range []string{"one that reads", "one that writes", "one for all"} {
			if code, body := ask(t, c.method, at+c.path, "", "Authorization", "Bearer "+token); code != c.codes[i] {
				t.Errorf("%s %s, %q: %d %s", c.method, c.path, token, code, body)
			}
		}
	}
	if code, _ := ask(t, "GET", at+"/v1/health", ""); code != 200 {
		t.Errorf("health: %d", code)
	}
}

func TestSessionOverHTTP(t *testing.T) {
	at := one(t)
	_, body := ask(t, "POST", at+"/v1/session", "")
	var s struct{ Session uint64 }
	if err := json.Unmarshal([]byte(body), &s); err != nil || s.Session == 0 {
		t.Fatal(body, err)
	}
	cas := func(request int, key string) (int, string) {
		return ask(t, "POST", at+"/v1/cas", `{"key":"`+key+`","absent":true,"new":"1"}`, server.SessionHeader, fmt.Sprint(s.Session), server.RequestHeader, fmt.Sprint(request))
	}
	_, first := cas(1, "a")
	if code, again := cas(1, "a"); code != 200 || again != first || !strings.Contains(again, `"held":true`) {
		t.Fatalf("a retry: %d %s, want %s", code, again, first)
	}
	if code, body := cas(0, "c"); code != 400 || !strings.Contains(body, "request 0") {
		t.Fatalf("request 0: %d %s", code, body)
	}
	cas(2, "b")
	if code, body := cas(1, "a"); code != 409 || !strings.Contains(body, `"unknown":true`) {
		t.Fatalf("an old request: %d %s", code, body)
	}
}

func TestBackupAndRestore(t *testing.T) {
	a, b := one(t), one(t)
	ask(t, "PUT", a+"/v1/kv/k", "from a")
	_, backup := ask(t, "GET", a+"/v1/backup", "")
	ask(t, "PUT", b+"/v1/kv/other", "from b")
	for _, bad := range []string{backup[:60], backup[:len(backup)-1], backup + "x", backup[:len(backup)-9] + "!" + backup[len(backup)-8:]} {
		if code, body := ask(t, "POST", b+"/v1/restore", bad); code != 400 || !strings.Contains(body, "snapshot") {
			t.Fatalf("a damaged backup: %d %s", code, body)
		}
	}
	if _, v := ask(t, "GET", b+"/v1/kv/other", ""); v != "from b" {
		t.Fatalf("after damaged backups: %q", v)
	}
	res, err := http.Post("http://"+b+"/v1/restore", "", bytes.NewReader([]byte(backup)))
	if err != nil || res.StatusCode != 200 {
		t.Fatal(err, res)
	}
	res.Body.Close()
	if _, v := ask(t, "GET", b+"/v1/kv/k", ""); v != "from a" {
		t.Fatal(v)
	}
	if code, _ := ask(t, "GET", b+"/v1/kv/other", ""); code != 404 {
		t.Fatal(code)
	}
	ask(t, "PUT", b+"/v1/kv/k", "later")
	if _, v := ask(t, "GET", b+"/v1/kv/k", ""); v != "later" {
		t.Fatal(v)
	}
}

func TestWatch(t *testing.T) {
	at := one(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, "GET", "http://"+at+"/v1/watch?prefix=w", nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	lines := bufio.NewScanner(res.Body)
	lines.Scan() // the index from which on it watches
	ask(t, "PUT", at+"/v1/kv/other", "1")
	ask(t, "PUT", at+"/v1/kv/w1", "1")
	ask(t, "POST", at+"/v1/batch", `{"do":[{"op":"delete_range","key":"a"}]}`)
	var ops []string
	for len(ops) < 2 && lines.Scan() {
		var c server.Change
		if err := json.Unmarshal(lines.Bytes(), &c); err != nil {
			t.Fatal(err)
		}
		if c.Op != "" {
			ops = append(ops, c.Op+" "+c.Key)
		}
	}
	if fmt.Sprint(ops) != "[put w1 delete_range a]" {
		t.Fatal(ops, lines.Err())
	}
}

// lossy loses answers: the request was served, and the client hears of an error.
type lossy struct{ n atomic.Int64 }

func (l *lossy) RoundTrip(r *http.Request) (*http.Response, error) {
	res, err := http.DefaultTransport.RoundTrip(r)
	if err == nil && l.n.Add(1)%3 != 0 {
		res.Body.Close()
		return nil, errors.New("lost")
	}
	return res, err
}

// TestRetriesApplyOnce increments a number by compare-and-swap while answers are lost. Each
// increment that is reported happened once.
func TestRetriesApplyOnce(t *testing.T) {
	at := one(t)
	c := client.New([]string{at}, client.Options{HTTP: &lossy{}})
	defer c.Close()
	key := []byte("n")
	const most = 20
	for i := range most {
		var old []byte
		if i > 0 {
			old = fmt.Append(nil, i)
		}
		swapped, err := c.CompareAndSwap(t.Context(), key, old, fmt.Append(nil, i+1))
		if err != nil || !swapped {
			t.Fatalf("increment %d: %v, %v", i, swapped, err)
		}
	}
	if v, err := c.Get(t.Context(), key); err != nil || string(v) != fmt.Sprint(most) {
		t.Fatalf("%s, %v", v, err)
	}
}

func TestClient(t *testing.T) {
	at := one(t)
	dead := httptest.NewServer(nil)
	dead.Close()
	c := client.New([]string{strings.TrimPrefix(dead.URL, "http://"), at}, client.Options{})
	defer c.Close()
	ctx := t.Context()
	if _, err := c.Get(ctx, []byte("k")); err != client.ErrNotFound {
		t.Fatal(err)
	}
	keys := []string{"", "a/b?c=d&e", "\xff\x00", "k 1", strings.Repeat("l", 3000)}
	for _, k := range keys {
		if err := c.Put(ctx, []byte(k), []byte("v"+k), time.Hour); err != nil {
			t.Fatal(err)
		}
		if v, err := c.Get(ctx, []byte(k)); err != nil || string(v) != "v"+k {
			t.Fatalf("%q: %q, %v", k, v, err)
		}
	}
	var seen int
	if err := c.Scan(ctx, nil, nil, 2, func(k, v []byte) bool {
		if string(v) != "v"+string(k) {
			t.Errorf("%q: %q", k, v)
		}
		seen++
		return true
	}); err != nil || seen != len(keys) {
		t.Fatal(seen, err)
	}
	if err := c.Delete(ctx, []byte("k 1")); err != nil {
		t.Fatal(err)
	}
	if err := c.Put(ctx, bytes.Repeat([]byte("k"), 70000), nil, 0); err == nil {
		t.Fatal("a key that is too long")
	}
}
