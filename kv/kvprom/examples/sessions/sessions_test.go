package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"nvkv/kv"
)

// hang is the time after which a test gives up. A busy machine takes far less.
const hang = 2 * time.Minute

// ask sends a request and decodes the answer into out, if that is not nil.
func ask(t *testing.T, method, url string, body, out any) int {
	t.Helper()
	var text bytes.Buffer
	if body != nil {
		if err := json.NewEncoder(&text).Encode(body); err != nil {
			t.Fatal(err)
		}
	}
	q, err := http.NewRequestWithContext(t.Context(), method, url, &text)
	if err != nil {
		t.Fatal(err)
	}
	r, err := http.DefaultClient.Do(q)
	if err != nil {
		t.Error(err)
		return 0
	}
	defer r.Body.Close()
	got, err := io.ReadAll(r.Body)
	if err == nil && out != nil {
		err = json.Unmarshal(got, out)
	}
	if err != nil {
		t.Errorf("%s %s: %v in %q", method, url, err, got)
	}
	return r.StatusCode
}

// clock is a wall clock that a test sets.
type clock struct {
	mu sync.Mutex
	at time.Time
}

func (c *clock) now() time.Time { c.mu.Lock(); defer c.mu.Unlock(); return c.at }

func (c *clock) pass(d time.Duration) { c.mu.Lock(); defer c.mu.Unlock(); c.at = c.at.Add(d) }

func TestSessions(t *testing.T) {
	c := &clock{at: time.Now()}
	db, err := kv.Open("", &kv.Options{Device: "mem", Clock: c.now})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	server := httptest.NewServer(newHandler(db))
	defer server.Close()
	base := server.URL + "/sessions"

	var s, got session
	if code := ask(t, "POST", base, map[string]any{"user": "ada", "ttl": "30m", "data": map[string]int{"n": 1}}, &s); code != 201 || s.ID == "" {
		t.Fatalf("create: %d, %+v", code, s)
	}
	if code := ask(t, "GET", base+"/"+s.ID, nil, &got); code != 200 || got.User != "ada" || string(got.Data) != `{"n":1}` {
		t.Errorf("get: %d, %+v", code, got)
	}
	c.pass(20 * time.Minute)
	if code := ask(t, "POST", base+"/"+s.ID+"/renew", map[string]string{"ttl": "45m"}, nil); code != 200 {
		t.Errorf("renew: %d", code)
	}
	c.pass(20 * time.Minute) // past the first end
	if code := ask(t, "GET", base+"/"+s.ID, nil, nil); code != 200 {
		t.Errorf("after the renewal: %d", code)
	}
	c.pass(time.Hour)
	if code := ask(t, "GET", base+"/"+s.ID, nil, nil); code != 404 {
		t.Errorf("after its end: %d", code)
	}
	if code := ask(t, "POST", base+"/"+s.ID+"/renew", map[string]string{"ttl": "45m"}, nil); code != 404 {
		t.Errorf("an expired session was renewed: %d", code)
	}
	for name, body := range map[string]any{
		"no user": map[string]string{"ttl": "1m"}, "no ttl": map[string]string{"user": "a"}, "a zero": map[string]string{"user": "a\x00", "ttl": "1m"},
		"a long ttl": map[string]string{"user": "a", "ttl": "9999h"}, "no object": 3, "a large body": map[string]string{"user": strings.Repeat("a", 1<<17)},
	} {
		if code := ask(t, "POST", base, body, nil); code != 400 {
			t.Errorf("%s: %d", name, code)
		}
	}
	if code := ask(t, "GET", base+"?user=a&limit=0", nil, nil); code != 400 {
		t.Errorf("a limit of 0: %d", code)
	}
	if code := ask(t, "GET", server.URL+"/healthz", nil, nil); code != 204 {
		t.Errorf("health: %d", code)
	}
}

// TestPages walks through a user's sessions, a page at a time, beside those of a user whose name
// begins alike.
func TestPages(t *testing.T) {
	db, err := kv.Open("", &kv.Options{Device: "mem"})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	server := httptest.NewServer(newHandler(db))
	defer server.Close()
	base := server.URL + "/sessions"
	want := map[string]bool{}
	for i := range 25 {
		var s session
		ask(t, "POST", base, map[string]string{"user": "ada", "ttl": "1h"}, &s)
		want[s.ID] = true
		ask(t, "POST", base, map[string]string{"user": fmt.Sprintf("ada%d", i), "ttl": "1h"}, nil)
	}
	after, pages := "", 0
	for {
		var p page
		if code := ask(t, "GET", base+"?user=ada&limit=10&after="+after, nil, &p); code != 200 {
			t.Fatalf("page %d: %d", pages, code)
		}
		for _, text := range p.Sessions {
			var s session
			if err := json.Unmarshal(text, &s); err != nil || s.User != "ada" || !want[s.ID] {
				t.Errorf("%v, or twice, or of another user: %s", err, text)
			}
			delete(want, s.ID)
			if code := ask(t, "DELETE", base+"/"+s.ID, nil, nil); code != 204 { // behind the reader: skips nothing
				t.Errorf("delete: %d", code)
			}
		}
		if pages++; p.Next == "" {
			break
		}
		after = p.Next
	}
	if len(want) != 0 || pages != 3 {
		t.Errorf("%d sessions were not listed, in %d pages", len(want), pages)
	}
}

// TestService runs the whole service under load: clients make, read, renew and end sessions, the
// process is asked for a backup and then for its end, and the store and the backup must hold what the
// clients were told.
func TestService(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "sessions.nv")
	address, ended := make(chan net.Addr, 1), make(chan error, 1)
	log := slog.New(slog.DiscardHandler)
	go func() { ended <- serve(t.Context(), path, "127.0.0.1:0", log, func(a net.Addr) { address <- a }) }()
	var base string
	select {
	case a := <-address:
		base = "http://" + a.String()
	case err := <-ended:
		t.Fatal(err)
	}
	before := session{}
	ask(t, "POST", base+"/sessions", map[string]string{"user": "before", "ttl": "1h"}, &before)

	var clients sync.WaitGroup
	var mu sync.Mutex
	alive, over := map[string]bool{}, []string{}
	for c := range 8 {
		clients.Go(func() {
			for i := range 60 {
				var s session
				if code := ask(t, "POST", base+"/sessions", map[string]string{"user": fmt.Sprint("user", c), "ttl": "1h"}, &s); code != 201 {
					t.Errorf("create: %d", code)
					return
				}
				if code := ask(t, "POST", base+"/sessions/"+s.ID+"/renew", map[string]string{"ttl": "2h"}, nil); code != 200 {
					t.Errorf("renew: %d", code)
				}
				ends := i%3 == 0
				if ends && ask(t, "DELETE", base+"/sessions/"+s.ID, nil, nil) != 204 {
					t.Error("not ended")
				}
				mu.Lock()
				if ends {
					over = append(over, s.ID)
				} else {
					alive[s.ID] = true
				}
				mu.Unlock()
			}
		})
	}
	if err := syscall.Kill(os.Getpid(), syscall.SIGUSR1); err != nil {
		t.Fatal(err)
	}
	backups := func() []string { names, _ := filepath.Glob(filepath.Join(dir, "*.nvb")); return names }
	for began := time.Now(); len(backups()) == 0; time.Sleep(5 * time.Millisecond) {
		if time.Since(began) > hang {
			t.Fatal("no backup came")
		}
	}
	clients.Wait()
	r, err := http.Get(base + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(r.Body)
	r.Body.Close()
	if err != nil || !bytes.Contains(text, []byte(`nvkv_puts_total{store="sessions"}`)) || !bytes.Contains(text, []byte("nvkv_call_duration_seconds_bucket")) {
		t.Errorf("%v, metrics:\n%s", err, text)
	}
	if err := syscall.Kill(os.Getpid(), syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err != nil && !errors.Is(err, http.ErrServerClosed) {
		t.Fatal(err)
	}

	db, err := kv.Open(path, &kv.Options{ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for id := range alive {
		if ok, err := db.Has(sessionKey(id)); !ok || err != nil {
			t.Errorf("session %s is lost: %v", id, err)
		}
	}
	for _, id := range over {
		if ok, err := db.Has(sessionKey(id)); ok || err != nil {
			t.Errorf("session %s was ended and is there: %v", id, err)
		}
	}
	if n := db.Metrics().Keys; n != int64(2*len(alive)+2) {
		t.Errorf("%d keys for %d sessions", n, len(alive)+1)
	}
	checkBackup(t, backups()[0], before.ID)
}

// checkBackup restores a backup. It must hold a session that was there before it, and the two keys
// of every session or neither.
func checkBackup(t *testing.T, file, id string) {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	path := filepath.Join(t.TempDir(), "restored.nv")
	if err := kv.Restore(context.Background(), path, f, nil); err != nil {
		t.Fatal(err)
	}
	db, err := kv.Open(path, &kv.Options{ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if ok, err := db.Has(sessionKey(id)); !ok || err != nil {
		t.Errorf("the backup lacks a session: %v", err)
	}
	err = db.View(func(tx *kv.Tx) error {
		for _, value := range tx.Prefix([]byte("s/")) {
			var s session
			if err := json.Unmarshal(value, &s); err != nil {
				return err
			}
			if ok, err := tx.Has(userKey(s.User, s.ID)); !ok || err != nil {
				t.Errorf("the backup has half a session: %v", err)
			}
		}
		return tx.Err()
	})
	if err != nil {
		t.Error(err)
	}
}
