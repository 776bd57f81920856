package main

import (
	"encoding/json"
	"strings"
	"testing"
	"time"
)

func TestCountKeys(t *testing.T) {
	store := endingStore(t) // a, b, c, d; b and d expire
	for args, want := range map[string]string{"": "4\n", "--prefix b": "1\n", "--start b": "3\n", "--start b --end d": "2\n", "--key-hex --prefix 63": "1\n", "--prefix x": "0\n"} {
		if got := must(t, append([]string{"count", store}, strings.Fields(args)...)...); got != want {
			t.Errorf("count %s: %q, want %q", args, got, want)
		}
	}
	var r countResult
	if err := json.Unmarshal([]byte(must(t, "count", store, "--sizes", "--json")), &r); err != nil {
		t.Fatal(err)
	}
	if s := r.Sizes; r.Keys != 4 || s == nil || s.KeyBytes != 4 || s.ValueBytes != 10 || s.MaxKey != 1 || s.MaxValue != 4 || s.Expiring != 2 || !s.FirstExpiry.Equal(later) {
		t.Errorf("sizes %+v", r.Sizes)
	}
	if out := must(t, "count", store, "--sizes"); !strings.Contains(out, "expiring  2, the first at 2199-") {
		t.Errorf("sizes:\n%s", out)
	}
}

func TestDelRange(t *testing.T) {
	store := newStore(t, "a", "1", "user/1", "1", "user/2", "2", "user/3", "3", "z", "9")
	if got := must(t, "del", store, "--prefix", "user/", "--dry-run"); got != "3 keys would be deleted\n" {
		t.Errorf("dry run: %q", got)
	}
	if got := must(t, "del", store, "a", "--dry-run", "--json"); !strings.Contains(got, `"deleted": 1`) || !strings.Contains(got, `"dry_run": true`) {
		t.Errorf("dry run of a key: %q", got)
	}
	r := nvkv(t, "del", store, "a", "nothing", "--dry-run")
	if r.code != exitNotFound || !strings.Contains(r.errOut, `"nothing"`) || r.out != "1 key would be deleted\n" {
		t.Errorf("dry run of keys: %+v", r)
	}
	if got := must(t, "count", store); got != "5\n" {
		t.Errorf("after dry runs: %q", got)
	}
	if got := must(t, "del", store, "--start", "user/2", "--end", "user/3"); got != "1 key deleted\n" {
		t.Errorf("a range: %q", got)
	}
	if got := must(t, "del", store, "--prefix", "user/", "--json"); !strings.Contains(got, `"deleted": 2`) || !strings.Contains(got, `"dry_run": false`) {
		t.Errorf("a prefix: %q", got)
	}
	if got := must(t, "del", store, "--prefix", "nobody"); got != "0 keys deleted\n" {
		t.Errorf("an empty range: %q", got)
	}
	if got := must(t, "scan", store); got != "a\t1\nz\t9\n" {
		t.Errorf("left: %q", got)
	}
	fails(t, exitUsage, []string{"either keys or a range"}, "del", store, "a", "--prefix", "z")
	fails(t, exitUsage, []string{"want STORE KEY..."}, "del", store)
	if got := must(t, "del", store, "--start", ""); got != "2 keys deleted\n" {
		t.Errorf("everything: %q", got)
	}
}

// TestFormsApart checks that the form of keys and that of values can be chosen apart.
func TestFormsApart(t *testing.T) {
	store := newStore(t)
	must(t, "put", store, "--key-hex", "00ff", "text")
	must(t, "put", store, "--value-hex", "k", "00ff")
	for args, want := range map[string]string{
		"get --key-hex 00ff": "text", "get --value-hex k": "00ff\n", "get --hex 6b": "00ff\n", "get --key-hex --base64 6b": "AP8=\n",
		"scan --key-hex": "00ff\ttext\n6b\t\\x00\\xff\n", "scan --value-hex": "\\x00\\xff\t74657874\nk\t00ff\n", "scan --hex": "00ff\t74657874\n6b\t00ff\n",
		"scan --prefix 6b --key-hex --keys-only": "6b\n",
	} {
		words := strings.Fields(args)
		if got := must(t, append([]string{words[0], store}, words[1:]...)...); got != want {
			t.Errorf("%s: %q, want %q", args, got, want)
		}
	}
}

func TestDumpRange(t *testing.T) {
	store := newStore(t, "a", "1", "user/1", "1", "user/2", "2")
	for args, want := range map[string]string{"--prefix user/": `{"key":"user/1","value":"1"}` + "\n" + `{"key":"user/2","value":"2"}` + "\n", "--end b --format lines": "a\t1\n", "--key-hex --prefix 61": `{"key":"a","value":"1"}` + "\n"} {
		if got := must(t, append([]string{"dump", store}, strings.Fields(args)...)...); got != want {
			t.Errorf("dump %s: %q, want %q", args, got, want)
		}
	}
}

func TestInfoOfKey(t *testing.T) {
	store := endingStore(t)
	if got := must(t, "info", store, "a"); got != "key      \"a\", 1 byte\nvalue    1 byte\nexpires  never\n" {
		t.Errorf("info of a key: %q", got)
	}
	var k keyInfo
	if err := json.Unmarshal([]byte(must(t, "info", store, "--key-hex", "62", "--json")), &k); err != nil {
		t.Fatal(err)
	}
	if k.KeyBytes != 1 || k.ValueBytes != 4 || k.Expires == nil || !k.Expires.Equal(later) {
		t.Errorf("info of a key that expires: %+v", k)
	}
	if got := must(t, "info", store, "b"); !strings.Contains(got, "expires  at "+later.Format(time.RFC3339)+", in ") {
		t.Errorf("info of a key that expires: %q", got)
	}
	fails(t, exitNotFound, []string{`"x"`}, "info", store, "x")
}
