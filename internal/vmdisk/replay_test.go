package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const unit = 512

// logOf builds a log. A letter writes a sector of that letter at the place of its number in the
// alphabet; a capital letter writes it durably; '|' is a flush.
func logOf(events string) []byte {
	var b []byte
	sector := func(words ...uint64) {
		s := make([]byte, unit)
		for i, w := range words {
			binary.LittleEndian.PutUint64(s[8*i:], w)
		}
		b = append(b, s...)
	}
	sector(logMagic, logVersion, uint64(len(events)), unit)
	for _, c := range []byte(events) {
		if c == '|' {
			sector(0, 0, flagFlush, 0)
			continue
		}
		flags := uint64(0)
		if 'A' <= c && c <= 'Z' {
			flags = flagFUA
		}
		sector(uint64(c|0x20-'a'), 1, flags, 0)
		b = append(b, bytes.Repeat([]byte{c}, unit)...)
	}
	return b
}

// image is a disk of 26 sectors.
type image []byte

func (m image) WriteAt(p []byte, off int64) (int, error) { return copy(m[off:], p), nil }

// String shows the first byte of each sector that was written.
func (m image) String() string {
	var s strings.Builder
	for i := 0; i < len(m); i += unit {
		if m[i] != 0 {
			s.WriteByte(m[i])
		}
	}
	return s.String()
}

func TestReplay(t *testing.T) {
	for _, c := range []struct {
		events   string
		keep     bool
		want     string
		lost     int
		writes   int
		unflushd int
	}{
		{"", true, "", 0, 0, 0},
		{"abc", false, "", 3, 3, 3},
		{"abc", true, "abc", 0, 3, 3},
		{"ab|c", false, "ab", 1, 3, 1},
		{"ab|c|d", false, "abc", 1, 4, 1},
		{"ab|cD", false, "abD", 1, 4, 1},
		{"a|A", false, "A", 0, 2, 0},
		{"A|a", true, "a", 0, 2, 1},
		{"|abc", false, "", 3, 3, 3},
		{"abc|", false, "abc", 0, 3, 0},
	} {
		log := bytes.NewReader(logOf(c.events))
		entries, err := readLog(log)
		if err != nil {
			t.Fatalf("%s: %v", c.events, err)
		}
		m := make(image, 26*unit)
		o, err := replay(log, m, entries, func() bool { return c.keep })
		if err != nil {
			t.Fatalf("%s: %v", c.events, err)
		}
		if m.String() != c.want || o.writes != c.writes || o.unflushed != c.unflushd || o.unflushed-o.kept != c.lost {
			t.Errorf("%s: the disk holds %s, want %s; %v", c.events, m, c.want, o)
		}
	}
}

func TestEmptyLog(t *testing.T) {
	if entries, err := readLog(bytes.NewReader(nil)); err != nil || len(entries) > 0 {
		t.Errorf("%d entries, %v", len(entries), err)
	}
}

func TestLogBeforeItsFirstFlush(t *testing.T) {
	log := logOf("abc")
	clear(log[:unit])
	if entries, err := readLog(bytes.NewReader(log)); err != nil || len(entries) != 3 {
		t.Errorf("%d entries, %v", len(entries), err)
	}
}

// TestCutLog checks that a log may end anywhere after its last complete entry.
func TestCutLog(t *testing.T) {
	whole := logOf("ab|c")
	binary.LittleEndian.PutUint64(whole[16:], 3) // the count is written with the flushes
	for cut := len(whole) - 1; cut > len(whole)-2*unit; cut-- {
		entries, err := readLog(bytes.NewReader(whole[:cut]))
		if err != nil || len(entries) != 3 {
			t.Fatalf("cut at %d: %d entries, %v", cut, len(entries), err)
		}
	}
	if _, err := readLog(bytes.NewReader(whole[:4*unit])); !errors.Is(err, errHole) {
		t.Errorf("a log without its flush: %v", err)
	}
	clear(whole[3*unit : 4*unit]) // the entry of b
	if _, err := readLog(bytes.NewReader(whole)); !errors.Is(err, errHole) {
		t.Errorf("a log with a hole: %v", err)
	}
}

func TestRefusesWhatIsNoLog(t *testing.T) {
	for name, spoil := range map[string]func(b []byte) []byte{
		"half a head":      func(b []byte) []byte { return b[:20] },
		"another magic":    func(b []byte) []byte { b[0]++; return b },
		"sectors of 3":     func(b []byte) []byte { b[24], b[25] = 3, 0; return b },
		"a discard":        func(b []byte) []byte { b[unit+16] = flagDiscard; return b },
		"a comment":        func(b []byte) []byte { b[unit+24]++; return b },
		"a write too long": func(b []byte) []byte { b[unit+15] = 1; return b },
	} {
		if _, err := readLog(bytes.NewReader(spoil(logOf("ab|c")))); err == nil || errors.Is(err, errHole) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestCutPlace checks that the power fails after the last acknowledged entry, and that every later
// place is possible.
func TestCutPlace(t *testing.T) {
	entries, err := readLog(bytes.NewReader(logOf("ab|cd|e")))
	if err != nil {
		t.Fatal(err)
	}
	for from, first := range map[int64]int{0: 0, 1: 0, 2 * unit: 0, 3 * unit: 1, 6 * unit: 3, 1 << 30: 7} {
		seen := map[int]bool{}
		for seed := range uint64(200) {
			c := cut{from: from, rng: rand.New(rand.NewPCG(seed, 0))}
			seen[len(c.head(entries))] = true
		}
		for n := range len(entries) + 1 {
			if seen[n] != (n >= first) {
				t.Errorf("from %d: a cut after %d entries: %v", from, n, seen[n])
			}
		}
	}
}

func TestRun(t *testing.T) {
	dir := t.TempDir()
	log, disk := filepath.Join(dir, "log"), filepath.Join(dir, "disk")
	for path, b := range map[string][]byte{log: logOf("ab|cdefghijklmnopqrstuvwxyz"), disk: make([]byte, 26*unit)} {
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c := cut{from: 1 << 30, keep: 0.5, rng: rand.New(rand.NewPCG(7, 0))}
	if err := run(log, disk, c); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(disk)
	if err != nil {
		t.Fatal(err)
	}
	if s := image(got).String(); len(got) != 26*unit || !strings.HasPrefix(s, "ab") || len(s) < 4 || len(s) > 24 {
		t.Errorf("of 24 sectors that were not flushed about half should stay: %s", s)
	}
}
