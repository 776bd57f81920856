package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"nvkv/internal/effort"
	"nvkv/nvmap"
)

// TestPager builds this program and lets it serve a map.
func TestPager(t *testing.T) {
	if err := nvmap.PagedSupported(); err != nil {
		effort.NotTested(t, "%v", err)
	}
	dir := t.TempDir()
	pager, path := filepath.Join(dir, "pager"), filepath.Join(dir, "bytes")
	if out, err := exec.Command("go", "build", "-o", pager, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	stored := bytes.Repeat([]byte{0xff}, 1<<20) // zeros, inverted
	if err := os.WriteFile(path, stored, 0o600); err != nil {
		t.Fatal(err)
	}
	p, err := nvmap.OpenPaged(path, &nvmap.PagedOptions{
		Device: nvmap.OpenOptions{Kind: "xored"}, Pager: []string{pager}, CacheBytes: 256 << 10,
	})
	if err != nil {
		t.Fatal(err)
	}
	b := p.Bytes()
	for i := 0; i < len(b); i += nvmap.PageBytes {
		if b[i] != 0 {
			t.Fatalf("byte %d is %d", i, b[i])
		}
		b[i] = 7
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	if stored, err = os.ReadFile(path); err != nil {
		t.Fatal(err)
	}
	for i, v := range stored {
		want := byte(0xff)
		if i%nvmap.PageBytes == 0 {
			want = 0xff ^ 7
		}
		if v != want {
			t.Fatalf("byte %d of the file is %#x, want %#x", i, v, want)
		}
	}
}
