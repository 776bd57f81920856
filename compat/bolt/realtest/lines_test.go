package realtest

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestLinesOfTheGuide: a program that uses bbolt becomes one that uses nvkv by each set of lines in
// docs/from-bbolt.md, and by these alone; without them again, it reads a copy that it made.
func TestLinesOfTheGuide(t *testing.T) {
	root, err := filepath.Abs("../../..")
	if err != nil {
		t.Fatal(err)
	}
	guide, err := os.ReadFile(filepath.Join(root, "docs", "from-bbolt.md"))
	if err != nil {
		t.Fatal(err)
	}
	blocks := 0
	for i, block := range strings.Split(string(guide), "```") {
		block = strings.TrimPrefix(block, "\n")
		work := strings.HasPrefix(block, "go 1.")
		if i%2 == 0 || !work && !strings.HasPrefix(block, "replace ") {
			continue
		}
		blocks++
		block = strings.ReplaceAll(block, "DIR", root)
		p := newProgram(t)
		if work {
			p.write("go.work", block)
		} else {
			p.write("go.mod", programModule+"\n"+block)
		}
		p.run("put", "db")
		if !p.isStore("db") {
			t.Errorf("with these lines the program still uses bbolt:\n%s", block)
		}
		p.run("copy", "db", "copy")
		p.write("go.mod", programModule)
		if work {
			if err := os.Remove(filepath.Join(p.dir, "go.work")); err != nil {
				t.Fatal(err)
			}
		}
		if out := p.run("get", "copy"); out != "blue" || p.isStore("copy") {
			t.Errorf("back with bbolt, the copy says %q", out)
		}
	}
	if blocks != 3 {
		t.Errorf("docs/from-bbolt.md has %d sets of lines, want 3", blocks)
	}
}

const programModule = "module program\n\ngo 1.26.0\n\nrequire go.etcd.io/bbolt v1.5.0\n"

const programText = `package main

import (
	"fmt"
	"os"

	"go.etcd.io/bbolt"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}

func run(args []string) error {
	db, err := bbolt.Open(args[1], 0o600, nil)
	if err != nil {
		return err
	}
	defer db.Close()
	switch args[0] {
	case "put":
		return db.Update(func(tx *bbolt.Tx) error {
			b, err := tx.CreateBucket([]byte("colours"))
			if err != nil {
				return err
			}
			return b.Put([]byte("sky"), []byte("blue"))
		})
	case "copy":
		return db.View(func(tx *bbolt.Tx) error { return tx.CopyFile(args[2], 0o600) })
	}
	return db.View(func(tx *bbolt.Tx) error {
		fmt.Printf("%s", tx.Bucket([]byte("colours")).Get([]byte("sky")))
		return nil
	})
}
`

// program is a module that uses bbolt.
type program struct {
	*testing.T
	dir string
}

func newProgram(t *testing.T) *program {
	p := &program{t, t.TempDir()}
	p.write("main.go", programText)
	p.write("go.mod", programModule)
	return p
}

func (p *program) write(name, text string) {
	p.Helper()
	if err := os.WriteFile(filepath.Join(p.dir, name), []byte(text), 0o600); err != nil {
		p.Fatal(err)
	}
}

// run runs the program and returns what it prints.
func (p *program) run(args ...string) string {
	p.Helper()
	mode := "-mod=mod" // writes go.sum
	if _, err := os.Stat(filepath.Join(p.dir, "go.work")); err == nil {
		mode = ""
	}
	c := exec.Command("go", append([]string{"run", "."}, args...)...)
	c.Dir, c.Env = p.dir, append(os.Environ(), "GOFLAGS="+mode, "GOWORK=")
	var errors bytes.Buffer
	c.Stderr = &errors
	out, err := c.Output()
	if err != nil {
		p.Fatalf("go run . %v: %v\n%s%s", args, err, out, errors.Bytes())
	}
	return string(out)
}

// isStore says whether a file is a store of nvkv.
func (p *program) isStore(name string) bool {
	p.Helper()
	b, err := os.ReadFile(filepath.Join(p.dir, name))
	if err != nil {
		p.Fatal(err)
	}
	return bytes.HasPrefix(b, []byte("\x00\x89nvkv"))
}
