package main

import (
	"bytes"
	"strings"
	"testing"
)

func TestScan(t *testing.T) {
	store := newStore(t, "", "0", "a", "1", "ab", "2", "b", "3", "c", "4\n")
	must(t, "put", store, "--hex", "ffff", "00")
	for _, c := range []struct{ args, want string }{
		{"", `= a= ab= b= c= \xff\xff=`},
		{"--start a --end c", "a= ab= b="},
		{"--end a", "="},
		{"--end=", ""},
		{"--start c --end a", ""},
		{"--prefix a", "a= ab="},
		{"--prefix a --start ab --end z", "ab="},
		{"--prefix b --start a --end bb", "b="},
		{"--prefix ff --hex", "ffff="},
		{"--prefix /w== --base64 --reverse", "//8="},
		{"--reverse", `\xff\xff= c= b= ab= a= =`},
		{"--reverse --start a --end c --limit 2", "b= ab="},
		{"--limit 2", "= a="},
		{"--prefix x", ""},
	} {
		args := append([]string{"scan", store}, strings.Fields(c.args)...)
		var keys []string
		for line := range strings.Lines(must(t, args...)) {
			key, _, _ := strings.Cut(line, "\t")
			keys = append(keys, key+"=")
		}
		want := strings.Fields(c.want)
		for i := range want {
			if want[i] == "//8=" {
				want[i] += "="
			}
		}
		if strings.Join(keys, " ") != strings.Join(want, " ") {
			t.Errorf("scan %s: got %q, want %q", c.args, keys, want)
		}
	}
}

func TestScanOutput(t *testing.T) {
	store := newStore(t, "a\tb", "1\n", "é", "\x1b")
	for _, c := range []struct {
		args []string
		want string
	}{
		{nil, `a\tb	1\n` + "\n" + `é	\x1b` + "\n"},
		{[]string{"--keys-only"}, `a\tb` + "\né\n"},
		{[]string{"--hex"}, "610962\t310a\nc3a9\t1b\n"},
		{[]string{"--base64", "--keys-only"}, "YQli\nw6k=\n"},
		{[]string{"--json"}, `{"key":"a\tb","value":"1\n"}` + "\n" + `{"key":"é","value":"\u001b"}` + "\n"},
		{[]string{"--json", "--keys-only"}, `{"key":"a\tb"}` + "\n" + `{"key":"é"}` + "\n"},
	} {
		if got := must(t, append([]string{"scan", store}, c.args...)...); got != c.want {
			t.Errorf("scan %q: got %q, want %q", c.args, got, c.want)
		}
	}
}

func TestPrefixEnd(t *testing.T) {
	for _, c := range []struct{ prefix, end []byte }{
		{[]byte("a"), []byte("b")},
		{[]byte("a\xff"), []byte("b")},
		{[]byte("\xff\xff"), nil},
		{nil, nil},
	} {
		if got := prefixEnd(c.prefix); !bytes.Equal(got, c.end) || (got == nil) != (c.end == nil) {
			t.Errorf("prefixEnd(%q) is %q, want %q", c.prefix, got, c.end)
		}
	}
}
