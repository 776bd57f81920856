package main

import (
	"encoding/json"
	"strings"
	"testing"
)

func TestInfo(t *testing.T) {
	store := newStore(t, "a", "1", "b", "2")
	out := must(t, "info", store)
	for _, want := range []string{store, "device", "fenced is", "power cut", "keys", "2"} {
		if !strings.Contains(out, want) {
			t.Errorf("info does not say %q:\n%s", want, out)
		}
	}
}

func TestInfoJSON(t *testing.T) {
	store := newStore(t, "a", "1", "b", "2")
	var info storeInfo
	if err := json.Unmarshal([]byte(must(t, "info", store, "--json")), &info); err != nil {
		t.Fatal(err)
	}
	if info.Store != store || info.Keys != 2 || info.Device.Kind == "" || info.DeviceBytes == 0 || info.Unfinished != nil {
		t.Errorf("got %+v", info)
	}
}
