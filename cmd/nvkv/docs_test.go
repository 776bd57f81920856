package main

import (
	"errors"
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

// TestCommandsInDocs parses the commands of the documents, slow ones too. TestDocuments runs them.
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
	if lines := docCommands(t, "../../README.md"); len(lines) < 15 {
		t.Fatalf("the README has only %d commands", len(lines))
	}
}

// writeBbolt makes a bbolt file with a bucket that holds a key.
func writeBbolt(path, bucket string) error {
	db, err := bolt.Open(path, 0o600, nil)
	if err != nil {
		return err
	}
	err = db.Update(func(tx *bolt.Tx) error {
		b, err := tx.CreateBucket([]byte(bucket))
		if err != nil {
			return err
		}
		return b.Put([]byte("k"), []byte("v"))
	})
	return errors.Join(err, db.Close())
}
