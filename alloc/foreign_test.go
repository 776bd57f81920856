package alloc

import (
	"strings"
	"testing"
)

func TestDescribe(t *testing.T) {
	bolt := append(make([]byte, 16), "\xed\xda\x0c\xed"...)
	for head, want := range map[string]string{
		string(bolt): "a bbolt file", string(append(make([]byte, 4096), bolt...)): "a bbolt file",
		"SQLite format 3\x00...": "a SQLite database", "nvkvBKUP": "a backup", "\x00\x89nvkv2\n": "a store",
		"Dear reader, hello": `begins with "Dear rea"`, "\x01\x02": `begins with "\x01\x02"`, "": `begins with ""`,
	} {
		if got := Describe([]byte(head)); !strings.Contains(got, want) {
			t.Errorf("%.40q: %q, want %q", head, got, want)
		}
	}
}
