package main

import (
	"strings"
	"testing"
)

func TestGet(t *testing.T) {
	store := newStore(t, "k", "two\nlines", "empty", "", "", "no key")
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"k"}, "two\nlines"},
		{[]string{"empty"}, ""},
		{[]string{""}, "no key"},
		{[]string{"6b", "--hex"}, "74776f0a6c696e6573\n"},
		{[]string{"aw==", "--base64"}, "dHdvCmxpbmVz\n"},
	} {
		if got := must(t, append([]string{"get", store}, c.args...)...); got != c.want {
			t.Errorf("get %q: got %q, want %q", c.args, got, c.want)
		}
	}
}

func TestGetNotFound(t *testing.T) {
	store := newStore(t, "k", "v")
	fails(t, exitNotFound, []string{store, `"K\n"`, "not found"}, "get", store, "K\n")
	fails(t, exitNotFound, []string{`""`}, "get", store, "")
	fails(t, exitNotFound, []string{`kkk"... (1,000 bytes)`}, "get", store, strings.Repeat("k", 1000))
}

func TestTerminalText(t *testing.T) {
	for value, want := range map[string]string{
		"":                 "\n",
		"a":                "a\n",
		"a\nb\n":           "a\nb\n",
		"\x1b[2J\xff\ttab": `\x1b[2J\xff\ttab` + "\n",
	} {
		if got := string(terminalText([]byte(value))); got != want {
			t.Errorf("%q: got %q, want %q", value, got, want)
		}
	}
}
