package main

import "testing"

func TestPutUnderCondition(t *testing.T) {
	store := newStore(t)
	must(t, "put", store, "--if-absent", "k", "1")
	fails(t, exitFailed, []string{store, `"k"`, "there already", "nothing was changed"}, "put", store, "--if-absent", "k", "2")
	fails(t, exitFailed, []string{store, `"k"`, "another value", "nothing was changed"}, "put", store, "--if-value", "2", "k", "3")
	if got := must(t, "get", store, "k"); got != "1" {
		t.Errorf("got %q", got)
	}
	must(t, "put", store, "--if-value", "1", "k", "2")
	must(t, "put", store, "--hex", "--if-value", "32", "6b", "33")
	mustIn(t, "large", "put", store, "--if-value", "3", "k", "-")
	if got := must(t, "get", store, "k"); got != "large" {
		t.Errorf("got %q", got)
	}
	must(t, "put", store, "empty", "")
	must(t, "put", store, "--if-value", "", "empty", "no more")
	fails(t, exitNotFound, []string{store, `"none"`, "not found"}, "put", store, "--if-value", "", "none", "1")
	must(t, "put", store, "--ttl", "1ns", "gone", "1")
	must(t, "put", store, "--if-absent", "gone", "2")
	fails(t, exitUsage, []string{"if-absent"}, "put", store, "--if-absent", "--if-value", "1", "k", "2")
	fails(t, exitUsage, []string{"ttl"}, "put", store, "--if-absent", "--ttl", "1s", "k", "2")
	fails(t, exitUsage, []string{"hexadecimal"}, "put", store, "--hex", "--if-value", "x", "6b", "32")
	fails(t, exitFailed, []string{"no such file"}, "put", store+"none", "--if-value", "x", "k", "2")
}

func TestDelUnderCondition(t *testing.T) {
	store := newStore(t, "a", "1", "b", "2")
	fails(t, exitFailed, []string{store, `"a"`, "another value", "nothing was changed"}, "del", store, "a", "--if-value", "2")
	must(t, "del", store, "a", "--if-value", "1")
	fails(t, exitNotFound, []string{store, `"a"`, "not found"}, "del", store, "a", "--if-value", "1")
	must(t, "del", store, "a", "--if-value", "1", "--force")
	fails(t, exitUsage, []string{"one KEY"}, "del", store, "a", "b", "--if-value", "1")
	if got := must(t, "scan", store); got != "b\t2\n" {
		t.Errorf("got %q", got)
	}
}
