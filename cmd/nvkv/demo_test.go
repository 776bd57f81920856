package main

import (
	"errors"
	"os"
	"slices"
	"strings"
	"testing"

	"nvkv/internal/effort"
	"nvkv/kv"
)

func TestDemo(t *testing.T) {
	t.Setenv(asProgram, "1") // for the child
	dir := effort.Dir(t)
	out := must(t, "demo", "--dir", dir)
	for _, want := range []string{
		"device", "fenced is", "power cut", "34,924 characters", "Killed (SIGKILL)", "Opened again in",
		"acknowledged characters are there", "SNOWMAN", "WHITE CHESS KING", "CAT FACE WITH WRY SMILE",
		"\n  put ", "\n  get ", "\n  scan ", "\n  fences ", "\n  medium ", "nothing wrong",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("the demo does not say %q", want)
		}
	}
	if strings.Contains(out, "\x1b") {
		t.Error("colours without a terminal")
	}
	if t.Failed() {
		t.Log(out)
	}
	if names, err := os.ReadDir(dir); err != nil || len(names) > 0 {
		t.Errorf("left behind: %v, %v", names, err)
	}
}

func TestDemoKeep(t *testing.T) {
	if testing.Short() {
		t.Skip("a whole demonstration more")
	}
	t.Setenv(asProgram, "1")
	out := must(t, "demo", "--dir", effort.Dir(t), "--keep")
	_, rest, _ := strings.Cut(out, "nvkv scan ")
	store, _, _ := strings.Cut(rest, " ")
	if got := must(t, "get", store, "name/SNOWMAN"); got != "2603" {
		t.Errorf("the kept store says %q", got)
	}
}

func TestDemoDirAbsent(t *testing.T) {
	fails(t, exitFailed, []string{"/absent/"}, "demo", "--dir", "/absent/dir")
}

func TestCharacters(t *testing.T) {
	chars, err := characters()
	if err != nil {
		t.Fatal(err)
	}
	if len(chars) != 34_924 || chars[0].line != "0000;<control>;Cc;0;BN;;;;;N;NULL;;;;" {
		t.Errorf("%d characters, the first %q", len(chars), chars[0].line)
	}
	names := map[string]bool{}
	for _, c := range chars {
		if c.named() && names[c.name] {
			t.Errorf("two characters are named %s", c.name)
		}
		names[c.name] = true
	}
	if !slices.IsSortedFunc(chars, func(a, b character) int { return int(a.code - b.code) }) {
		t.Error("not in the order of the code points")
	}
}

// TestDemoNoticesLoss checks that the demonstration notices losses.
func TestDemoNoticesLoss(t *testing.T) {
	chars, err := characters()
	if err != nil {
		t.Fatal(err)
	}
	chars = chars[100:110] // all of them have names
	for _, c := range []struct {
		name  string
		spoil func(db *kv.DB) error
		says  string
	}{
		{"nothing", func(*kv.DB) error { return nil }, ""},
		{"lost character", func(db *kv.DB) error {
			return errors.Join(db.Delete(charKey(chars[9].code)), db.Delete(nameKey(chars[9].name)))
		}, "10 characters acknowledged, only 9 there"},
		{"gap", func(db *kv.DB) error {
			return errors.Join(db.Delete(charKey(chars[3].code)), db.Delete(nameKey(chars[3].name)))
		}, "is there, char/000067 before it is not"},
		{"half a transaction", func(db *kv.DB) error { return db.Delete(nameKey(chars[4].name)) }, "half of a transaction"},
		{"other bytes", func(db *kv.DB) error { return db.Put(charKey(chars[5].code), []byte("x")) }, `holds "x"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			db, err := kv.Open(newStore(t), nil)
			if err != nil {
				t.Fatal(err)
			}
			defer db.Close()
			if err := loadCharacters(t.Context(), db, chars, 1, func(int) error { return nil }); err != nil {
				t.Fatal(err)
			}
			if err := c.spoil(db); err != nil {
				t.Fatal(err)
			}
			d := demo{out: newTeller(&strings.Builder{}), chars: chars, group: 1, acknowledged: len(chars)}
			err = d.verify(t.Context(), db)
			if c.says == "" && err != nil || c.says != "" && (err == nil || !strings.Contains(err.Error(), c.says)) {
				t.Errorf("got %v, want %q", err, c.says)
			}
		})
	}
}

// TestDemoGroups checks that if a fence is slow, several characters form one transaction, and only
// complete transactions are there after the kill.
func TestDemoGroups(t *testing.T) {
	t.Setenv(asProgram, "1")
	chars, err := characters()
	if err != nil {
		t.Fatal(err)
	}
	var told strings.Builder
	d := demo{out: newTeller(&told), path: newStore(t), chars: chars, group: 37}
	if err := d.kill(t.Context()); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(told.String(), "every 37 a durable transaction") {
		t.Errorf("the demo does not say so: %s", told.String())
	}
	db, err := kv.Open(d.path, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if err := d.verify(t.Context(), db); err != nil {
		t.Error(err)
	}
	if len(d.chars)+len(d.left) != 34_924 || len(d.chars)%37 != 0 {
		t.Errorf("%d characters there, %d not", len(d.chars), len(d.left))
	}
}

// TestKilledLoadWithoutKill checks that a child that ends by itself is an error.
func TestKilledLoadWithoutKill(t *testing.T) {
	t.Setenv(asProgram, "1")
	_, err := killedLoad(t.Context(), t.TempDir(), "", 1, 10)
	if err == nil || !strings.Contains(err.Error(), "ended by itself after 0 acknowledgements: exit status 1; nvkv demo-load: ") {
		t.Errorf("got %v", err)
	}
}

func TestReadAcknowledged(t *testing.T) {
	killed := 0
	kill := func() error { killed++; return nil }
	if last, err := readAcknowledged(strings.NewReader("1\n2\n3\n4\n"), 2, kill); last != 4 || err != nil || killed != 1 {
		t.Errorf("last %d, %v, killed %d times", last, err, killed)
	}
	if _, err := readAcknowledged(strings.NewReader("1\n3\n"), 9, kill); err == nil {
		t.Error("a gap in the acknowledgements goes unnoticed")
	}
}
