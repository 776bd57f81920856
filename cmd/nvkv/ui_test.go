package main

import (
	"bufio"
	"context"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestUI starts the command, reads the URL that it prints, gets the page, and ends it.
func TestUI(t *testing.T) {
	store := newStore(t, "colour", "blue")
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	r, w := io.Pipe()
	var errOut strings.Builder
	ended := make(chan int, 1)
	go func() { ended <- run(ctx, []string{"ui", store}, strings.NewReader(""), w, &errOut); w.Close() }()
	line, err := bufio.NewReader(r).ReadString('\n')
	if err != nil {
		t.Fatalf("no URL: %v, %s", err, errOut.String())
	}
	address := strings.TrimSpace(line)
	if !strings.HasPrefix(address, "http://127.0.0.1:") || len(strings.Split(address, "/")[3]) < 20 {
		t.Errorf("the URL is %s", address)
	}
	res, err := http.Get(address)
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(res.Body)
	res.Body.Close()
	if err != nil || res.StatusCode != 200 || !strings.Contains(string(text), "colour") {
		t.Errorf("%d, %v, %s", res.StatusCode, err, text)
	}
	if got := must(t, "get", store, "colour"); got != "blue" { // another reader beside it
		t.Errorf("got %q", got)
	}
	stop()
	if code := <-ended; code != exitDone {
		t.Errorf("exit code %d, %s", code, errOut.String())
	}
}

func TestUIRefuses(t *testing.T) {
	store := newStore(t, "a", "b")
	for _, listen := range []string{"0.0.0.0:8080", ":8080", "192.0.2.1:80", "example.com:80", "[::]:0", "127.0.0.1"} {
		fails(t, exitUsage, []string{"--listen"}, "ui", store, "--listen", listen)
	}
	absent := filepath.Join(t.TempDir(), "absent")
	fails(t, exitFailed, []string{"absent"}, "ui", absent)
	fails(t, exitFailed, []string{"absent"}, "ui", absent, "--writable")
	if _, err := os.Stat(absent); err == nil {
		t.Error("a store was made")
	}
}
