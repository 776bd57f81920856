//go:build amd64 || arm64

package nvmap_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"nvkv/internal/effort"
	"nvkv/nvmap"
)

// needPaged skips a test where the kernel forbids userfaultfd.
func needPaged(t testing.TB) {
	t.Helper()
	if err := nvmap.PagedSupported(); err != nil {
		effort.NotTested(t, "%v", err)
	}
}

// within fails the test with the state of all goroutines if do takes far too long.
func within(t testing.TB, p *nvmap.Paged, what string, do func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		do()
	}()
	select {
	case <-done:
	case <-time.After(effort.Hang):
		buf := make([]byte, 1<<20)
		buf = buf[:runtime.Stack(buf, true)]
		t.Fatalf("%s hangs; %+v\n%s", what, p.Stats(), buf)
	}
}

// pagedFile makes a file of pages that each begin with their number.
func pagedFile(t testing.TB, dir string, pages int) string {
	t.Helper()
	path := filepath.Join(dir, "medium")
	b := make([]byte, pages*nvmap.PageBytes)
	for p := range pages {
		binary.LittleEndian.PutUint64(b[p*nvmap.PageBytes:], uint64(p))
	}
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func openPaged(t testing.TB, path string, o *nvmap.PagedOptions) *nvmap.Paged {
	t.Helper()
	p, err := nvmap.OpenPaged(path, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		within(t, p, "Close", func() {
			if err := p.Close(); err != nil {
				t.Error(err)
			}
		})
	})
	return p
}

// TestPagedLoadsAndStores loads and stores plainly, with memory for an eighth of the device, and
// compares every byte, also after reopening.
func TestPagedLoadsAndStores(t *testing.T) {
	needPaged(t)
	for _, kind := range []string{"file", "block", "shm"} {
		t.Run(kind, func(t *testing.T) {
			const pages = 1024
			dir := t.TempDir()
			if kind == "shm" {
				dir = shmDir(t)
			}
			path := pagedFile(t, dir, pages)
			o := &nvmap.PagedOptions{CacheBytes: pages * nvmap.PageBytes / 8, Device: nvmap.OpenOptions{Kind: kind}}
			p := openPaged(t, path, o)
			b := p.Bytes()
			if len(b) != pages*nvmap.PageBytes {
				t.Fatalf("%d bytes", len(b))
			}
			model := make([]byte, len(b))
			for i := range pages {
				if got := binary.LittleEndian.Uint64(b[i*nvmap.PageBytes:]); got != uint64(i) {
					t.Fatalf("page %d holds %d", i, got)
				}
				binary.LittleEndian.PutUint64(model[i*nvmap.PageBytes:], uint64(i))
			}
			r := rand.New(rand.NewPCG(1, 2))
			for range 4 * pages {
				at := r.IntN(len(b) - 64)
				for i := range 64 {
					b[at+i] = byte(r.Uint32())
				}
				copy(model[at:at+64], b[at:at+64])
			}
			if !bytes.Equal(b, model) {
				t.Fatal("the map differs from the model")
			}
			s := p.Stats()
			if s.ResidentMaxBytes > o.CacheBytes || s.ResidentMaxBytes == 0 || s.Evictions == 0 {
				t.Errorf("%+v", s)
			}
			if err := p.Sync(); err != nil {
				t.Fatal(err)
			}
			if s := p.Stats(); s.DirtyBytes != 0 {
				t.Errorf("%d dirty bytes after Sync", s.DirtyBytes)
			}
			onDisk, err := os.ReadFile(path)
			if err != nil || !bytes.Equal(onDisk, model) {
				t.Fatalf("after Sync the file differs from the model (%v)", err)
			}
			b[5] ^= 0xff
			model[5] ^= 0xff
			if err := p.Close(); err != nil {
				t.Fatal(err)
			}
			if err := p.Close(); err != nil {
				t.Fatalf("the second Close: %v", err)
			}
			if err := p.Sync(); !errors.Is(err, nvmap.ErrClosed) {
				t.Errorf("Sync after Close: %v", err)
			}
			if onDisk, err = os.ReadFile(path); err != nil || !bytes.Equal(onDisk, model) {
				t.Fatalf("after Close the file differs from the model (%v)", err)
			}
			p = openPaged(t, path, o)
			if !bytes.Equal(p.Bytes(), model) {
				t.Fatal("reopened, the map differs from the model")
			}
		})
	}
}

func quietLogger() *slog.Logger { return slog.New(slog.DiscardHandler) }
