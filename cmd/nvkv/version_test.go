package main

import (
	"encoding/json"
	"runtime"
	"strings"
	"testing"
)

func TestVersion(t *testing.T) {
	if out := must(t, "version"); !strings.HasPrefix(out, "nvkv ") || !strings.Contains(out, runtime.Version()) {
		t.Errorf("got %q", out)
	}
	var v versionInfo
	if err := json.Unmarshal([]byte(must(t, "version", "--json")), &v); err != nil || v.Go != runtime.Version() {
		t.Errorf("got %+v, %v", v, err)
	}
}
