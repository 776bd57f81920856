package nvmap_test

import (
	"fmt"
	"slices"
	"sync"

	"nvkv/nvmap"
)

// newest is a policy of the caller: the newest frames are evicted first. It suits loops over more
// pages than there are frames.
type newest struct{ pages []nvmap.PageID }

func (s *newest) Name() string                  { return "newest first" }
func (s *newest) Admit(nvmap.PageID, bool) bool { return true }

func (s *newest) Insert(p nvmap.PageID) {
	if !slices.Contains(s.pages, p) {
		s.pages = append(s.pages, p)
	}
}

func (s *newest) Remove(p nvmap.PageID) {
	s.pages = slices.DeleteFunc(s.pages, func(q nvmap.PageID) bool { return q == p })
}

func (s *newest) Victims(dst []nvmap.PageID, n int, _ func(nvmap.PageID) bool) []nvmap.PageID {
	for ; n > 0 && len(s.pages) > 0; n-- {
		last := len(s.pages) - 1
		dst, s.pages = append(dst, s.pages[last]), s.pages[:last]
	}
	return dst
}

// This example gives NewMap a Policy of the caller. nvmaptest.TestPolicy checks such a policy.
func ExamplePolicy() {
	m, err := nvmap.NewMap(nvmap.NewMem(8<<20), &nvmap.MapOptions{
		CacheBytes: 1 << 20, // 256 frames
		Policy:     new(newest),
		Mode:       nvmap.Cached,
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer m.Close()
	if err := m.Grow(2 << 20); err != nil {
		fmt.Println(err)
		return
	}
	var b [1]byte
	for range 4 { // 512 pages, in a loop
		for p := range nvmap.PageID(512) {
			if err := m.Load(p.Off(), b[:]); err != nil {
				fmt.Println(err)
				return
			}
		}
	}
	s := m.Stats()
	fmt.Println(s.CachePolicy+":", "hits in a loop over twice as much:", s.Hits > 500, "within the bound:", s.CacheUsed <= s.CacheBytes)
	// Output: newest first: hits in a loop over twice as much: true within the bound: true
}

// counted is a device of the caller. It passes all calls on and counts fences. Embedding a Device
// is enough for that. A device from scratch has all methods of Device; nvmaptest.TestDevice checks
// it.
type counted struct {
	nvmap.Device
	mu     sync.Mutex
	fences int
}

func (c *counted) Info() nvmap.Info {
	info := c.Device.Info()
	info.Kind = "counted(" + info.Kind + ")"
	return info
}

func (c *counted) Fence() error {
	c.mu.Lock()
	c.fences++
	c.mu.Unlock()
	return c.Device.Fence()
}

func ExampleDevice() {
	dev := &counted{Device: nvmap.NewMem(1 << 20)}
	m, err := nvmap.NewMap(dev, &nvmap.MapOptions{CacheBytes: 1 << 20, Mode: nvmap.DirectProtect})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer m.Close()
	if err := m.Grow(nvmap.PageBytes); err != nil {
		fmt.Println(err)
		return
	}
	for i := range nvmap.Off(100) { // in DRAM, all in one frame
		if err := m.Store(8*i, []byte("a change")); err != nil {
			fmt.Println(err)
			return
		}
	}
	if err := m.Sync(); err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(dev.Info().Kind, "wrote", m.Stats().WriteBackBytes, "bytes")
	// Output: counted(mem) wrote 4096 bytes
}
