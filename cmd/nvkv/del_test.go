package main

import "testing"

func TestDel(t *testing.T) {
	store := newStore(t, "a", "1", "b", "2", "c", "3", "d", "4")
	must(t, "del", store, "a")
	must(t, "del", store, "--hex", "62")
	fails(t, exitNotFound, []string{store, `"a"`, "not found"}, "del", store, "a", "c")
	if got := must(t, "scan", store); got != "d\t4\n" {
		t.Errorf("left: %q", got)
	}
	must(t, "del", store, "--force", "a", "d", "d")
	if got := must(t, "scan", store); got != "" {
		t.Errorf("left: %q", got)
	}
}
