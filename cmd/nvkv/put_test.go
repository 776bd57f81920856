package main

import (
	"strings"
	"testing"
)

func TestPut(t *testing.T) {
	store := newStore(t)
	for _, c := range []struct {
		stdin string
		args  []string
	}{
		{"", []string{"put", store, "text", "välue"}},
		{"", []string{"put", store, "", ""}},
		{"", []string{"put", store, "--hex", "00fF", "0a0d"}},
		{"", []string{"put", store, "--base64", "/w==", "AA=="}},
		{"raw\x00\n", []string{"put", store, "stdin", "-"}},
		{"raw", []string{"put", store, "--hex", "aa", "-"}},
		{"", []string{"put", store, "--", "-dash", "--hex"}},
	} {
		if out := mustIn(t, c.stdin, c.args...); out != "" {
			t.Errorf("nvkv %q wrote %q", c.args, out)
		}
	}
	want := "\t\n" + `\x00\xff	\n\r` + "\n-dash\t--hex\nstdin\traw" + `\x00\n` + "\ntext\tvälue\n" + `\xaa	raw` + "\n" + `\xff	\x00` + "\n"
	if got := must(t, "scan", store); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestPutReplaces(t *testing.T) {
	store := newStore(t, "k", "1", "k", "2")
	if got := must(t, "get", store, "k"); got != "2" {
		t.Errorf("got %q", got)
	}
}

func TestPutKeyTooLarge(t *testing.T) {
	store := newStore(t)
	fails(t, exitFailed, []string{store, "key"}, "put", store, strings.Repeat("k", 65536), "v")
	must(t, "put", store, strings.Repeat("k", 65535), "v")
}
