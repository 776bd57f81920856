package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	bolt "go.etcd.io/bbolt"
)

// docCommands returns the command lines of nvkv in the blocks of a text, without comments.
func docCommands(t *testing.T, path string) (lines []string) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		line, isBlock := strings.CutPrefix(line, "    nvkv ")
		line, _, _ = strings.Cut(line, "#")
		word, _, _ := strings.Cut(strings.TrimSpace(line), " ")
		if found, _, err := newRootCmd().Find([]string{word}); isBlock && err == nil && found.HasParent() {
			lines = append(lines, "nvkv "+strings.TrimSpace(line))
		}
	}
	return lines
}

// TestCommandsInDocs runs the commands of the README in order, with the results that the README
// states. It only parses slow ones, and those of other documents.
func TestCommandsInDocs(t *testing.T) {
	root := newRootCmd()
	others, err := filepath.Glob("../../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, doc := range append(others, "../../README.md") {
		for _, line := range docCommands(t, doc) {
			checkExample(t, root, line)
		}
	}
	lines := docCommands(t, "../../README.md")
	if len(lines) < 15 {
		t.Fatalf("the README has only %d commands", len(lines))
	}
	broken := newStore(t, "a", "some value")
	rot(t, broken, "some value")
	t.Chdir(t.TempDir())
	copyFile(t, broken, "broken.nv")
	for name, text := range map[string]string{"photo.jpg": "\xff\xd8", "people.csv": "id,name\n1,Ada\n2,Grace\n"} {
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	makeBbolt(t, "app.db", "users")
	for _, line := range lines {
		if !strings.HasPrefix(line, "nvkv bench") {
			typeIn(t, line)
		}
	}
}

// typeIn runs a command line as a shell would.
func typeIn(t *testing.T, line string) {
	t.Helper()
	line, output, _ := strings.Cut(line, ">")
	line, input, _ := strings.Cut(line, "<")
	stdin := ""
	if input = strings.TrimSpace(input); input != "" {
		b, err := os.ReadFile(input)
		if err != nil {
			t.Fatal(err)
		}
		stdin = string(b)
	}
	r := nvkvIn(t, stdin, strings.Fields(line)[1:]...)
	if r.code != exitDone {
		t.Errorf("%s: %+v", line, r)
	}
	if output = strings.TrimSpace(output); output != "" {
		if err := os.WriteFile(output, []byte(r.out), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	b, err := os.ReadFile(from)
	if err == nil {
		err = os.WriteFile(to, b, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// makeBbolt makes a bbolt file with a bucket that holds a key.
func makeBbolt(t *testing.T, path, bucket string) {
	t.Helper()
	db, err := bolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	err = db.Update(func(tx *bolt.Tx) error {
		b, err := tx.CreateBucket([]byte(bucket))
		if err != nil {
			return err
		}
		return b.Put([]byte("k"), []byte("v"))
	})
	if err != nil {
		t.Fatal(err)
	}
}
