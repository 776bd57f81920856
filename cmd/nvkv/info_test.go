package main

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"nvkv/internal/effort"
	"nvkv/nvmap"
)

func TestInfo(t *testing.T) {
	store := newStore(t, "a", "1", "b", "2")
	out := must(t, "info", store)
	transparent := "works"
	if err := nvmap.PagedSupported(); err != nil {
		transparent = err.Error()
	}
	for _, want := range []string{transparent, store, "version 2", "device", "fenced is", "power cut", "keys", "2"} {
		if !strings.Contains(out, want) {
			t.Errorf("info does not say %q:\n%s", want, out)
		}
	}
}

// TestInfoOfDevice checks that every command opens the kind of device that --device names, and that
// info shows it.
func TestInfoOfDevice(t *testing.T) {
	store := filepath.Join(t.TempDir(), "store")
	if r := nvkv(t, "put", store, "k", "v", "--device", "block"); r.code != exitDone {
		effort.NotTested(t, "no O_DIRECT here: %s", r.errOut)
	}
	out := must(t, "info", store, "--device", "block")
	for _, want := range []string{"block: asked for", "through copies in DRAM", "fdatasync", "4,096 bytes", "readers have no mapping"} {
		if !strings.Contains(out, want) {
			t.Errorf("info does not say %q:\n%s", want, out)
		}
	}
}

func TestInfoOfWrongDevice(t *testing.T) {
	store := newStore(t, "a", "1")
	for _, kind := range []string{"devdax", "pcie", "dax"} {
		fails(t, exitFailed, []string{kind, store}, "info", store, "--device", kind)
	}
}

func TestInfoJSON(t *testing.T) {
	store := newStore(t, "a", "1", "b", "2")
	var info storeInfo
	if err := json.Unmarshal([]byte(must(t, "info", store, "--json")), &info); err != nil {
		t.Fatal(err)
	}
	if info.Store != store || info.Format != 2 || info.Keys != 2 || info.Device.Kind == "" || info.DeviceBytes == 0 || info.Transparent == "" || info.Unfinished != nil {
		t.Errorf("got %+v", info)
	}
}

// TestWrapRows checks that a row is wrapped between words, and that no text is lost.
func TestWrapRows(t *testing.T) {
	long := strings.Repeat("word ", 30) + strings.Repeat("x", 90)
	got := wrapRows("name\t" + long + "\nkeys\t2\n")
	lines := strings.Split(strings.TrimSuffix(got, "\n"), "\n")
	var text []string
	for _, l := range lines[:len(lines)-1] {
		_, value, _ := strings.Cut(l, "\t")
		if len(value) > valueColumns && strings.Contains(value, " ") {
			t.Errorf("too long: %q", value)
		}
		text = append(text, value)
	}
	if strings.Join(text, " ") != long || lines[len(lines)-1] != "keys\t2" || len(lines) < 4 {
		t.Errorf("wrapped: %q", got)
	}
}

// TestHelpFits checks that the help of every command fits 80 columns.
func TestHelpFits(t *testing.T) {
	for _, name := range ownCommands {
		for line := range strings.Lines(must(t, name, "--help")) {
			if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > 80 {
				t.Errorf("%s: %d columns: %s", name, n, line)
			}
		}
	}
}
