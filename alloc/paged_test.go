package alloc_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"path/filepath"
	"testing"

	"nvkv/alloc"
	"nvkv/internal/effort"
	"nvkv/nvmap"
)

// TestAllocatorsOnTransparentMap keeps a list of pieces in a transparent map over a file with
// O_DIRECT, ten times as large as its cache, and finds it after reopening.
func TestAllocatorsOnTransparentMap(t *testing.T) {
	if err := nvmap.PagedSupported(); err != nil {
		effort.NotTested(t, "%v", err)
	}
	for name, open := range map[string]func(m *nvmap.Map) (alloc.Allocator, error){
		"slabs": func(m *nvmap.Map) (alloc.Allocator, error) { return alloc.OpenSlabs(m) },
		"buddy": func(m *nvmap.Map) (alloc.Allocator, error) { return alloc.OpenBuddy(m) },
	} {
		t.Run(name, func(t *testing.T) {
			const cache, pieces, size = 256 << 10, 700, 4000
			path := filepath.Join(t.TempDir(), "list")
			start := func() (*nvmap.Paged, *nvmap.Map, alloc.Allocator) {
				p, err := nvmap.OpenPaged(path, &nvmap.PagedOptions{
					Device: nvmap.OpenOptions{Kind: "block", Create: true}, CacheBytes: cache, MaxBytes: 64 << 20,
				})
				if err != nil {
					t.Fatal(err)
				}
				m, err := nvmap.NewMap(p.Device(), nil)
				if err != nil {
					t.Fatal(errors.Join(err, p.Close()))
				}
				a, err := open(m)
				if err != nil {
					t.Fatal(errors.Join(err, m.Close()))
				}
				return p, m, a
			}
			p, m, a := start()
			if err := a.Recover(func(func(alloc.Off, int) error) error { return nil }); err != nil {
				t.Fatal(err)
			}
			var head alloc.Off
			for i := range pieces {
				o, err := a.Alloc(size)
				if err != nil {
					t.Fatal(err)
				}
				b := make([]byte, size)
				binary.LittleEndian.PutUint64(b, uint64(head))
				binary.LittleEndian.PutUint64(b[size-8:], uint64(i))
				if err := m.Write(o, b); err != nil {
					t.Fatal(err)
				}
				head = o
			}
			if err := a.SetRoot(head); err != nil {
				t.Fatal(err)
			}
			if s := p.Stats(); s.ResidentMaxBytes > cache || s.Evictions == 0 || m.Size() < 10*cache {
				t.Errorf("%d bytes on %d: %+v", m.Size(), cache, s)
			}
			if err := m.Close(); err != nil {
				t.Fatal(err)
			}
			_, m, a = start()
			defer m.Close()
			left := pieces
			err := a.Recover(func(keep func(alloc.Off, int) error) error {
				for o := a.Root(); o != 0; left-- {
					b := m.View(o, size)
					if left == 0 || binary.LittleEndian.Uint64(b[size-8:]) != uint64(left-1) {
						return fmt.Errorf("piece %d is wrong", left-1)
					}
					if err := keep(o, size); err != nil {
						return err
					}
					o = alloc.Off(binary.LittleEndian.Uint64(b))
				}
				return nil
			})
			if err != nil || left != 0 {
				t.Fatalf("%d pieces are missing: %v", left, err)
			}
			if _, err := a.Alloc(size); err != nil {
				t.Error(err)
			}
		})
	}
}
