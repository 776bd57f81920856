package main

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"nvkv/kv"
)

func TestPutTTL(t *testing.T) {
	store := newStore(t)
	before := time.Now()
	must(t, "put", store, "session", "token", "--ttl", "90s")
	var rec struct {
		Key, Value string
		Expires    time.Time `json:"expires_at"`
	}
	if err := json.Unmarshal([]byte(must(t, "get", store, "session", "--json")), &rec); err != nil {
		t.Fatal(err)
	}
	if rec.Key != "session" || rec.Value != "token" || rec.Expires.Before(before.Add(90*time.Second)) || rec.Expires.After(time.Now().Add(90*time.Second)) {
		t.Errorf("got %+v", rec)
	}
	must(t, "put", store, "session", "token")
	if got := must(t, "get", store, "session", "--json"); got != `{"key":"session","value":"token"}`+"\n" {
		t.Errorf("a put without --ttl leaves %q", got)
	}
	fails(t, exitUsage, []string{"--ttl 0s"}, "put", store, "a", "b", "--ttl", "0")
	fails(t, exitUsage, []string{"--ttl -1s"}, "put", store, "a", "b", "--ttl", "-1s")
	fails(t, exitUsage, []string{"--ttl", "90", "not a duration"}, "put", store, "a", "b", "--ttl", "90")
	fails(t, exitNotFound, nil, "get", store, "a")
}

// later is a time that no test reaches.
var later = time.Date(2199, 1, 2, 3, 4, 5, 678, time.UTC)

// endingStore returns a store in which "b" and "d" expire.
func endingStore(t testing.TB) string {
	t.Helper()
	store := newStore(t, "a", "1", "c", "3")
	db, err := kv.Open(store, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"b", "d"} {
		if err := db.PutUntil([]byte(key), []byte("ends"), later); err != nil {
			t.Fatal(err)
		}
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	return store
}

// TestLoadExpired checks that records that have expired when they are loaded are absent, and
// counted.
func TestLoadExpired(t *testing.T) {
	store := newStore(t, "a", "0")
	text := `{"key":"a","value":"1","expires_at":"2001-02-03T04:05:06.000000007Z"}` + "\n" + `{"key":"b","value":"2","expires_at":"2199-02-03T04:05:06+01:00"}` + "\n"
	if out := mustIn(t, text, "load", store, "-"); !strings.Contains(out, "2 records put") || !strings.Contains(out, "1 of them had expired") {
		t.Errorf("load reports %q", out)
	}
	if got := must(t, "dump", store); got != `{"key":"b","value":"2","expires_at":"2199-02-03T03:05:06.000000000Z"}`+"\n" {
		t.Errorf("the store holds %q", got)
	}
}

// TestExpiriesThatAreLost checks that formats without expiries report how many they lost.
func TestExpiriesThatAreLost(t *testing.T) {
	store, dir := endingStore(t), t.TempDir()
	const warning = "2 records of what was written will not expire"
	r := nvkv(t, "dump", store, "--format", "lines")
	if r.code != exitDone || r.out != "a\t1\nb\tends\nc\t3\nd\tends\n" || !strings.Contains(r.errOut, warning) {
		t.Errorf("dump in lines: %+v", r)
	}
	for _, to := range []string{"bbolt:" + dir + "/b.db/bucket", "pebble:" + dir + "/pebble", "lines:" + dir + "/a.txt"} {
		r := nvkv(t, "convert", "--from", "nvkv:"+store, "--to", to)
		if r.code != exitDone || !strings.Contains(r.errOut, warning) || !strings.Contains(r.out, "4 entries") {
			t.Errorf("%s: %+v", to, r)
		}
	}
	var result struct {
		Lost int64 `json:"expiries_lost"`
	}
	r = nvkv(t, "convert", "--json", "--from", "nvkv:"+store, "--to", "pebble:"+dir+"/again")
	if err := json.Unmarshal([]byte(r.out), &result); err != nil || result.Lost != 2 {
		t.Errorf("%+v, %v: %+v", result, err, r)
	}
}

// TestConvertExpiries checks that converting keeps expiries and leaves out expired records, also if
// the destination would keep them for ever.
func TestConvertExpiries(t *testing.T) {
	store, dir := endingStore(t), t.TempDir()
	want := must(t, "dump", store)
	for _, to := range []string{"nvkv:" + dir + "/a.nv", "jsonl:" + dir + "/a.jsonl", "csv:" + dir + "/a.csv", "tsv:" + dir + "/a.tsv"} {
		must(t, "convert", "--from", "nvkv:"+store, "--to", to)
		back := filepath.Join(dir, to[:3]+".nv")
		must(t, "convert", "--from", to, "--to", "nvkv:"+back)
		if got := must(t, "dump", back); got != want {
			t.Errorf("%s and back: %q, want %q", to, got, want)
		}
	}
	text := newFile(t, "in.jsonl", `{"key":"a","value":"1","expires_at":"2001-02-03T04:05:06Z"}`+"\n"+`{"key":"b","value":"2"}`+"\n"+`{"key":"c","value":"3","expires_at":"9999-01-01T00:00:00Z"}`)
	for _, to := range []string{"pebble:" + dir + "/p", "csv:" + dir + "/p.csv"} {
		must(t, "convert", "--from", "jsonl:"+text, "--to", to)
		back := filepath.Join(dir, to[:3]+"back.nv")
		must(t, "convert", "--from", to, "--to", "nvkv:"+back)
		if got := must(t, "scan", back); got != "b\t2\nc\t3\n" {
			t.Errorf("%s holds %q", to, got)
		}
	}
}
