//go:build amd64 || arm64

package nvmap_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"nvkv/internal/effort"
	"nvkv/nvmap"
)

// soak is many goroutines on one map, each with a cell of 64 bytes in every page, beside garbage
// collections and kills of the pager.
type soak struct {
	kind       string
	procs      int // GOMAXPROCS
	share      int // the cache is this part of the device
	pages      int
	goroutines int
	steps      int           // of each goroutine, at least
	time       time.Duration // that it goes on at least
	kills      int
}

const cellBytes = 64

// TestPagedSoak is the soak in several forms.
func TestPagedSoak(t *testing.T) {
	needPaged(t)
	for _, procs := range []int{1, 2, 8} {
		for _, share := range []int{8, 32} {
			if effort.Now() < effort.Full && (procs == 2) != (share == 32) {
				continue // three of the six
			}
			s := soak{
				kind: "file", procs: procs, share: share, goroutines: 64,
				steps: effort.Pick(12, 24, 200, 1000),
				time:  effort.Pick(0, 0, 0, 60*time.Second),
				kills: effort.Pick(2, 3, 10, 50),
			}
			if share == 32 && effort.Now() >= effort.Full {
				s.kind = "block"
			}
			s.pages = int(nvmap.PagedCacheLeast/nvmap.PageBytes) * share
			t.Run(fmt.Sprintf("procs=%d/cache=%d", procs, share), s.run)
		}
	}
}

func (s soak) run(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(s.procs))
	dir := t.TempDir()
	path := pagedFile(t, dir, s.pages)
	if s.kind == "file" {
		path = pagedFile(t, effort.Dir(t), s.pages)
	}
	o := &nvmap.PagedOptions{
		CacheBytes: nvmap.PagedCacheLeast, MaxBytes: 64 << 20,
		Device: nvmap.OpenOptions{Kind: s.kind}, Logger: quietLogger(),
	}
	p := openPaged(t, path, o)
	b := p.Bytes()
	clear(b[:cellBytes]) // pagedFile has numbered the pages; cells begin with zeros
	for i := 0; i < len(b); i += nvmap.PageBytes {
		clear(b[i : i+8])
	}
	model := make([][]uint32, s.goroutines) // versions of the cells of each goroutine
	var stop atomic.Bool
	var work, beside sync.WaitGroup
	began := time.Now()
	for g := range s.goroutines {
		model[g] = make([]uint32, s.pages)
		work.Go(func() {
			r := rand.New(rand.NewPCG(7, uint64(g)))
			var want [cellBytes]byte
			for step := 0; (step < s.steps || time.Since(began) < s.time) && !t.Failed(); step++ {
				page := r.IntN(s.pages)
				if r.IntN(2) == 0 {
					page = r.IntN(s.pages / 16)
				}
				cell := b[page*nvmap.PageBytes+g*cellBytes:][:cellBytes]
				fillCell(want[:], g, page, model[g][page])
				if !bytes.Equal(cell, want[:]) {
					t.Errorf("goroutine %d, page %d, version %d: %x", g, page, model[g][page], cell)
					return
				}
				if r.IntN(3) > 0 {
					model[g][page]++
					fillCell(want[:], g, page, model[g][page])
					copy(cell, want[:])
				}
				if step%16 == 0 {
					garbage.Store(new([4096]byte))
				}
				if r.IntN(400) == 0 {
					if err := p.Sync(); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	beside.Go(func() {
		for !stop.Load() {
			runtime.GC()
			time.Sleep(time.Millisecond)
		}
	})
	var kills, last int
	beside.Go(func() {
		for kills < s.kills {
			time.Sleep(time.Duration(20+kills%7*10) * time.Millisecond) // from the start of one to its death
			_, pager := p.Processes()
			if pager == last || !isPager(pager) || unix.Kill(pager, unix.SIGKILL) != nil {
				continue // on a busy machine the last one may still be dying
			}
			kills, last = kills+1, pager
			if s.time > 0 {
				time.Sleep(s.time / time.Duration(s.kills+10))
			}
		}
	})
	within(t, p, "the soak", work.Wait)
	stop.Store(true)
	within(t, p, "killing", beside.Wait)
	check := func(when string, b []byte) {
		var want [cellBytes]byte
		for g := range s.goroutines {
			for page := range s.pages {
				fillCell(want[:], g, page, model[g][page])
				if cell := b[page*nvmap.PageBytes+g*cellBytes:][:cellBytes]; !bytes.Equal(cell, want[:]) {
					t.Fatalf("%s: goroutine %d, page %d, version %d: %x", when, g, page, model[g][page], cell)
				}
			}
		}
	}
	within(t, p, "Sync", func() {
		if err := p.Sync(); err != nil {
			t.Error(err)
		}
	})
	onDisk, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	check("after Sync", onDisk)
	stats := p.Stats()
	if stats.ResidentMaxBytes > o.CacheBytes {
		t.Errorf("%d bytes were present, more than %d", stats.ResidentMaxBytes, o.CacheBytes)
	}
	if stats.Restarts < uint64(s.kills) {
		t.Errorf("%d kills, %d restarts", kills, stats.Restarts)
	}
	t.Logf("%d kills, %+v", kills, stats)
	within(t, p, "Close", func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	p = openPaged(t, path, o)
	check("reopened", p.Bytes())
}

// isPager reports whether a process still is a pager.
func isPager(pid int) bool {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	return err == nil && bytes.HasPrefix(text, []byte("nvmap-pager"))
}

// garbage keeps the collector busy.
var garbage atomic.Pointer[[4096]byte]

// fillCell writes what a cell of a goroutine holds in a version.
func fillCell(cell []byte, g, page int, version uint32) {
	if version == 0 {
		clear(cell)
		return
	}
	for i := 0; i < len(cell); i += 8 {
		binary.LittleEndian.PutUint64(cell[i:], uint64(g)<<56|uint64(page)<<32|uint64(version)^uint64(i)<<48)
	}
}
