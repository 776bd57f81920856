package kv

import (
	"errors"
	"fmt"
	"path/filepath"
	"runtime/debug"
	"strings"
	"testing"

	"nvkv/internal/effort"
	"nvkv/nvmap"
)

// TestThousandStores: a thousand stores with default options are open in one process, on ordinary
// files and on shared memory, and each may grow to 16 GiB. The plain form opens fewer.
func TestThousandStores(t *testing.T) {
	skipInRace(t) // race builds take memory from the Go heap, with small bounds
	if !alone(t) {
		return
	}
	n := effort.Pick(30, 30, 1000, 1000)
	defer debug.SetGCPercent(debug.SetGCPercent(20))
	for name, dir := range map[string]string{"file": t.TempDir(), "shm": testDir(t)} {
		t.Run(name, func(t *testing.T) {
			key := []byte("key")
			var dbs []*DB
			defer func() {
				for _, db := range dbs {
					if err := db.Close(); err != nil {
						t.Error(err)
					}
				}
			}()
			scant := 0
			for i := range n {
				db, err := Open(filepath.Join(dir, fmt.Sprint(i)), nil)
				if err != nil {
					t.Fatalf("store %d: %v", i, err)
				}
				dbs = append(dbs, db)
				info := db.Info()
				if info.MaxBytes < 16<<30 || info.Scant != (info.MaxBytes < 1<<40) {
					t.Fatalf("store %d: %+v", i, info)
				}
				if info.Scant {
					scant++
				}
				must(t, db.Put(key, fmt.Append(nil, i)))
			}
			for i, db := range dbs {
				if v, err := db.Get(key); err != nil || string(v) != fmt.Sprint(i) {
					t.Fatalf("store %d: %q, %v", i, v, err)
				}
			}
			t.Logf("%d stores, %d of which got less than 1 TiB", n, scant)
		})
	}
}

// scantDevice got less address space than its owner asked for.
type scantDevice struct{ nvmap.Device }

func (d scantDevice) Info() nvmap.Info {
	info := d.Device.Info()
	info.Scant = true
	return info
}

// TestFullForWantOfAddressSpace: an ErrFull says so if the address space was the limit, for every
// size of value, and otherwise does not mention it.
func TestFullForWantOfAddressSpace(t *testing.T) {
	for _, scant := range []bool{true, false} {
		for _, size := range []int{100, 5000, 70_000, 1 << 20, 64 << 20} {
			var dev nvmap.Device = nvmap.NewMem(4 << 20)
			if scant {
				dev = scantDevice{dev}
			}
			db, err := OpenDevice(dev, &Options{EvacuateBytes: -1})
			must(t, err)
			for i := 0; err == nil; i++ {
				err = db.Put(fmt.Append(nil, i), make([]byte, size))
			}
			if says := strings.Contains(err.Error(), "address space"); !errors.Is(err, ErrFull) || says != scant {
				t.Errorf("values of %d bytes, scant %v: %v", size, scant, err)
			}
			must(t, db.Close())
		}
	}
}
