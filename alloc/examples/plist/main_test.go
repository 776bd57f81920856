package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"nvkv/alloc"
	"nvkv/nvmap"
)

// allocators are the allocators under test.
var allocators = map[string]func(*nvmap.Map) (alloc.Allocator, error){
	"slabs": func(m *nvmap.Map) (alloc.Allocator, error) { return alloc.OpenSlabs(m) },
	"buddy": func(m *nvmap.Map) (alloc.Allocator, error) { return alloc.OpenBuddy(m) },
}

func openOn(dev nvmap.Device, name string) (*list, error) {
	m, err := nvmap.NewMap(dev, nil)
	if err != nil {
		return nil, err
	}
	a, err := allocators[name](m)
	if err != nil {
		return nil, err
	}
	return open(m, a)
}

func (l *list) texts() (out []string, err error) {
	err = l.each(func(_ alloc.Off, text []byte) error {
		out = append(out, string(text))
		return nil
	})
	return out, err
}

// TestListCrash crashes at every write and fence of pushes and pops. The list must be the one
// before or after the operation in progress, and must work.
func TestListCrash(t *testing.T) {
	for name := range allocators {
		t.Run(name, func(t *testing.T) {
			sim := nvmap.NewSim(nvmap.NewMem(4 << 20))
			l, err := openOn(sim, name)
			if err != nil {
				t.Fatal(err)
			}
			var before, after []string
			images := 0
			look := func() {
				for im := range sim.Images(uint64(images), 12) {
					images++
					if err := crashed(im.Device(), name, before, after); err != nil && !t.Failed() {
						t.Errorf("%v: %v", im, err)
					}
				}
			}
			sim.OnWrite(func(nvmap.Off, int) { look() })
			sim.OnFence(look)
			for i := range 24 {
				if before = after; i%3 == 2 {
					after = before[1:]
					err = l.pop()
				} else {
					text := fmt.Sprintf("text %d", i)
					after = append([]string{text}, before...)
					err = l.push(text)
				}
				if err != nil || t.Failed() {
					t.Fatalf("step %d: %v", i, err)
				}
			}
			if images < 100 {
				t.Errorf("only %d images were looked at", images)
			}
		})
	}
}

func crashed(dev *nvmap.Sim, name string, legal ...[]string) error {
	l, err := openOn(dev, name)
	if err != nil {
		return err
	}
	defer l.m.Close()
	found, err := l.texts()
	if err != nil {
		return err
	}
	if !slices.Equal(found, legal[0]) && !slices.Equal(found, legal[1]) {
		return fmt.Errorf("found %q, neither %q nor %q", found, legal[0], legal[1])
	}
	return l.push("life goes on")
}

// TestListDamaged checks that a reference out of the device gives an error and no panic.
func TestListDamaged(t *testing.T) {
	for name := range allocators {
		dev := nvmap.NewSim(nvmap.NewMem(4 << 20))
		l, err := openOn(dev, name)
		if err != nil {
			t.Fatal(err)
		}
		if err := l.push("text"); err != nil {
			t.Fatal(err)
		}
		for _, at := range []alloc.Off{0, 8} { // offset of the next node, length of the text
			if err := dev.Corrupt(l.Root()+at, bytes.Repeat([]byte{0xfe}, 8)); err != nil {
				t.Fatal(err)
			}
			if _, err := openOn(dev, name); err == nil {
				t.Errorf("%s: word %d of the node is damaged, and nobody noticed", name, at)
			}
		}
	}
}

// TestProgram runs the program repeatedly on one file. It also checks the number of its lines that
// the documentation states.
func TestProgram(t *testing.T) {
	source, err := os.ReadFile("main.go")
	if err != nil {
		t.Fatal(err)
	}
	if n := bytes.Count(source, []byte("\n")); n >= 80 {
		t.Errorf("the example has %d lines", n)
	}
	dir := t.TempDir()
	bin := filepath.Join(dir, "plist")
	if out, err := exec.Command("go", "build", "-o", bin, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	want := ""
	for _, text := range []string{"one", "two", "three"} {
		want = text + "\n" + want
		out, err := exec.Command(bin, filepath.Join(dir, "list"), text).CombinedOutput()
		if err != nil || string(out) != want {
			t.Errorf("%v, printed %q, want %q", err, out, want)
		}
	}
	if out, err := exec.Command(bin).CombinedOutput(); err == nil || !bytes.Contains(out, []byte("plist FILE")) {
		t.Errorf("without arguments: %v, %q", err, out)
	}
}
