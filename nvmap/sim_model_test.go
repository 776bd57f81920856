package nvmap_test

import (
	"bytes"
	"testing"

	"nvkv/nvmap"
)

// TestLineStates moves a line through its states, and after each step checks the contents that a
// crash may leave.
func TestLineStates(t *testing.T) {
	s := newSim(t, nvmap.PageBytes)
	defer s.Close()
	try := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	is := func(step string, state nvmap.LineState, may ...string) {
		t.Helper()
		if got := s.LineState(70); got != state {
			t.Errorf("%s: %v, want %v", step, got, state)
		}
		seen := map[string]bool{}
		for im := range s.Images(1, 40) {
			p := make([]byte, 1)
			try(im.Device().Read(64, p))
			seen[string(p)] = true
		}
		for _, m := range may {
			if !seen[m] {
				t.Errorf("%s: no crash leaves %q", step, m)
			}
			delete(seen, m)
		}
		if len(seen) > 0 {
			t.Errorf("%s: a crash leaves %v", step, seen)
		}
	}
	is("new", nvmap.Clean, "\x00")
	try(s.Store(64, []byte("a")))
	is("stored", nvmap.Dirty, "\x00", "a")
	try(s.Fence())
	is("fenced without a flush", nvmap.Dirty, "\x00", "a")
	try(s.Flush(64, 1))
	is("flushed", nvmap.Flushed, "\x00", "a")
	try(s.Store(64, []byte("b")))
	is("stored again", nvmap.Dirty, "\x00", "a", "b")
	try(s.Fence())
	is("fenced", nvmap.Dirty, "a", "b")
	try(s.Write(64, []byte("c")))
	is("written", nvmap.Flushed, "a", "b", "c")
	try(s.Fence())
	is("fenced at last", nvmap.Clean, "c")
}

// TestLints checks the counts of unneeded flushes and fences.
func TestLints(t *testing.T) {
	s := newSim(t, nvmap.PageBytes)
	defer s.Close()
	write(t, s, 0, "one")
	write(t, s, 10, "two") // the same line, already flushed
	write(t, s, 0, "one")  // the same bytes as before
	if err := s.Flush(0, 128); err != nil {
		t.Fatal(err)
	}
	fence(t, s)
	fence(t, s)
	if err := s.Store(64, []byte("x")); err != nil {
		t.Fatal(err)
	}
	fence(t, s)
	want := nvmap.Lints{Stores: 4, Unchanged: 1, Flushes: 5, FlushedAgain: 2, FlushedClean: 2, Fences: 3, IdleFences: 2, Left: 1}
	if got := s.Lints(); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
}

// TestModels writes a page twice, and checks how images mix the versions.
func TestModels(t *testing.T) {
	for _, test := range []struct {
		name  string
		model nvmap.Model
		whole int  // bytes that are never mixed
		mixed bool // whether larger stretches are mixed
	}{
		{"lines", nvmap.Lines, 8, true},
		{"sectors", nvmap.Sectors, 512, true},
		{"pages", nvmap.Pages, 512, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := newSim(t, 2*nvmap.PageBytes)
			defer s.Close()
			s.SetModel(test.model)
			for _, b := range []string{"a", "b"} {
				write(t, s, 0, string(bytes.Repeat([]byte(b), 2*nvmap.PageBytes)))
			}
			mixed, units := 0, 0
			for im := range s.Images(1, 2000) {
				p := make([]byte, 2*nvmap.PageBytes)
				if err := im.Device().Read(0, p); err != nil {
					t.Fatal(err)
				}
				for at := 0; at < len(p); at += test.whole {
					if len(bytes.Trim(p[at:at+test.whole], string(p[at:at+1]))) > 0 {
						t.Fatalf("%v: a piece at %#x is mixed", im, at)
					}
				}
				if len(bytes.Trim(p[:test.model.Unit], string(p[:1]))) > 0 {
					mixed++
				}
				if p[0] != p[nvmap.PageBytes] {
					units++
				}
			}
			if torn := test.model.Tear < test.model.Unit; torn != (mixed > 0) {
				t.Errorf("%d images tear a unit, may they: %v", mixed, torn)
			}
			if units == 0 {
				t.Error("no image has units of different versions")
			}
		})
	}
}

// TestPoison checks that noise appears in words in flight, and nowhere else.
func TestPoison(t *testing.T) {
	s := newSim(t, nvmap.PageBytes)
	defer s.Close()
	s.SetPoison(func(o nvmap.Off) bool { return o == 0 })
	write(t, s, 8, "inflight")
	write(t, s, 72, "inflight")
	noise := 0
	for im := range s.Images(1, 200) {
		p := make([]byte, 128)
		if err := im.Device().Read(0, p); err != nil {
			t.Fatal(err)
		}
		old := make([]byte, 128)
		if w := p[72:80]; !bytes.Equal(w, old[:8]) && string(w) != "inflight" {
			t.Fatalf("%v: noise where none may be: %q", im, w)
		}
		if w := p[8:16]; !bytes.Equal(w, old[:8]) && string(w) != "inflight" {
			noise++
		}
		clear(p[8:16])
		clear(p[72:80])
		if !bytes.Equal(p, old) {
			t.Fatalf("%v: words changed that were not in flight", im)
		}
	}
	if noise == 0 {
		t.Error("no noise")
	}
}

// TestKilledAfterAnyWrite checks images of a process that died after any of its writes: no fence of
// the next process covers the lines that it left.
func TestKilledAfterAnyWrite(t *testing.T) {
	s := newSim(t, nvmap.PageBytes)
	defer s.Close()
	write(t, s, 0, "1")
	write(t, s, 64, "1")
	visible := map[string]bool{}
	for im := range s.Images(1, 50) {
		d := im.Device()
		if d.Pending() == 0 {
			continue
		}
		p := make([]byte, 65)
		if err := d.Read(0, p); err != nil {
			t.Fatal(err)
		}
		visible[string([]byte{p[0], p[64]})] = true
		write(t, d, 128, "next")
		fence(t, d)
		lost := false
		for im := range d.Images(1, 50) {
			if err := im.Device().Read(0, p); err != nil {
				t.Fatal(err)
			}
			lost = lost || p[0] == 0
		}
		if !lost {
			t.Errorf("%v: a fence made durable what another process had written", im)
		}
	}
	if len(visible) != 2 || !visible["1\x00"] || !visible["11"] {
		t.Errorf("after a kill the next process sees %v", visible)
	}
}
