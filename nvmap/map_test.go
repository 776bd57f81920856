package nvmap

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
)

func eachKind(t *testing.T, test func(t *testing.T, open func(t *testing.T) Device)) {
	t.Run("mem", func(t *testing.T) {
		test(t, func(t *testing.T) Device { return NewMem(64 << 20) })
	})
	for _, kind := range []string{"shm", "file"} {
		t.Run(kind, func(t *testing.T) {
			test(t, func(t *testing.T) Device {
				dir := t.TempDir()
				if kind == "shm" {
					var err error
					if dir, err = os.MkdirTemp("/dev/shm", "nvmap-test-"); err != nil {
						t.Skip(err)
					}
					t.Cleanup(func() { os.RemoveAll(dir) })
				}
				d, err := OpenDevice(filepath.Join(dir, "store"), OpenOptions{Create: true})
				if err != nil {
					t.Fatal(err)
				}
				if got := d.Info().Kind; got != kind {
					t.Fatalf("%s opened as %s", kind, got)
				}
				return d
			})
		})
	}
}

func TestSmoke(t *testing.T) {
	eachKind(t, func(t *testing.T, open func(t *testing.T) Device) {
		m, err := NewMap(open(t), nil)
		if err != nil {
			t.Fatal(err)
		}
		defer m.Close()
		if err := m.Grow(4 << 20); err != nil {
			t.Fatal(err)
		}
		model := make([]byte, m.Size())
		r := rand.New(rand.NewPCG(1, 2))
		for i := range 20000 {
			n := r.IntN(300)
			off := r.IntN(len(model) - n)
			p := make([]byte, n)
			for j := range p {
				p[j] = byte(r.Uint32())
			}
			copy(model[off:], p)
			if err := m.Write(Off(off), p); err != nil {
				t.Fatal(err)
			}
			if i%100 == 0 {
				m.Fence()
				if !bytes.Equal(m.View(0, len(model)), model) {
					t.Fatal("differs", i)
				}
			}
		}
		f, err := m.Frame(3)
		if err != nil {
			t.Fatal(err)
		}
		copy(f[:], "hello")
		v, ok := m.ReadBegin(3)
		fmt.Println(ok, m.Where(3), string(m.Page(3)[:5]), m.ReadValid(3, v))
		m.WriteBack(3, 0, 4096)
		m.Fence()
		m.Clean(3)
		m.Drop([]PageID{1, 2, 3, 4})
		fmt.Println(ok, m.Where(3), string(m.Page(3)[:5]), m.ReadValid(3, v))
		fmt.Printf("%+v\n%+v\n", m.Stats(), m.Device().Info())
	})
}

func BenchmarkWriteFence(b *testing.B) {
	dir, err := os.MkdirTemp("/dev/shm", "nvmap-test-")
	if err != nil {
		b.Skip(err)
	}
	defer os.RemoveAll(dir)
	d, err := OpenDevice(filepath.Join(dir, "store"), OpenOptions{Create: true})
	if err != nil {
		b.Fatal(err)
	}
	m, _ := NewMap(d, nil)
	defer m.Close()
	if err := m.Grow(1 << 30); err != nil {
		b.Fatal(err)
	}
	for _, n := range []int{64, 128, 144, 150, 152, 256, 1024, 4096} {
		p := make([]byte, n)
		for _, mode := range []string{"seq", "rand"} {
			b.Run(fmt.Sprintf("%d/%s", n, mode), func(b *testing.B) {
				off := uint64(0)
				step := uint64(n+7) &^ 7
				x := uint64(88172645463325252)
				for b.Loop() {
					if mode == "seq" {
						off += step
						if off > 1<<30-8192 {
							off = 0
						}
					} else {
						x ^= x << 13
						x ^= x >> 7
						x ^= x << 17
						off = x % (1<<30 - 8192) &^ 7
					}
					m.Write(Off(off), p)
					m.Fence()
				}
			})
		}
	}
}
