package main

import (
	"bytes"
	"path/filepath"
	"strings"
	"testing"

	"nvkv/kv"
)

func newGuest(t *testing.T, operations int) (*guest, *bytes.Buffer) {
	out := &bytes.Buffer{}
	return &guest{name: "test", path: filepath.Join(t.TempDir(), "s"), operations: operations, out: out}, out
}

func mustRun(t *testing.T, g *guest) {
	t.Helper()
	if err := g.run(); err != nil {
		t.Fatal(err)
	}
}

func TestRunsGoOn(t *testing.T) {
	g, out := newGuest(t, 400)
	mustRun(t, g)
	mustRun(t, g)
	for _, want := range []string{
		"@@ PASS test-recovered kind ", "ack test 1;\n", "ack test 400;\n", "@@ PASS test-closed 400 ",
		"400 operations acknowledged, 400 there", "ack test 401;\n", "@@ PASS test-closed 800 ",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the output lacks %q", want)
		}
	}
}

// TestUnacknowledgedMayBeThere checks that the store may hold more than was acknowledged, because
// the console loses lines.
func TestUnacknowledgedMayBeThere(t *testing.T) {
	g, out := newGuest(t, 100)
	mustRun(t, g)
	g.acked, g.operations = 37, 1
	mustRun(t, g)
	if want := "37 operations acknowledged, 100 there"; !strings.Contains(out.String(), want) {
		t.Errorf("the output lacks %q: %s", want, out)
	}
}

func TestFindsWhatIsWrong(t *testing.T) {
	for name, spoil := range map[string]func(db *kv.DB) error{
		"an absent value":   func(db *kv.DB) error { return db.DeleteRange(nil, []byte("key299")) },
		"a value too much":  func(db *kv.DB) error { return db.Put([]byte("other"), nil) },
		"a value of before": func(db *kv.DB) error { return db.Put([]byte("key007"), []byte("test/0/0:")) },
	} {
		t.Run(name, func(t *testing.T) {
			g, _ := newGuest(t, 300)
			mustRun(t, g)
			db, err := kv.Open(g.path, g.options())
			if err != nil {
				t.Fatal(err)
			}
			if err := spoil(db); err != nil {
				t.Fatal(err)
			}
			if err := db.Close(); err != nil {
				t.Fatal(err)
			}
			if err := g.run(); err == nil || !strings.Contains(err.Error(), "300 operations were acknowledged") {
				t.Errorf("it was not noticed: %v", err)
			}
		})
	}
}

func TestWantsItsKind(t *testing.T) {
	g, out := newGuest(t, 1)
	g.kind = "devdax"
	if err := g.run(); err == nil || !strings.Contains(err.Error(), "not devdax") || out.Len() > 0 {
		t.Errorf("%v; %s", err, out)
	}
}

// TestFindsALostSuffix checks that a store that lost its last acknowledged operations fails,
// although it holds a legal earlier state.
func TestFindsALostSuffix(t *testing.T) {
	g, _ := newGuest(t, 300)
	mustRun(t, g)
	g.acked = 301
	if err := g.run(); err == nil || !strings.Contains(err.Error(), "301 operations were acknowledged") {
		t.Errorf("it was not noticed: %v", err)
	}
}
