package alloc_test

import (
	"testing"

	"nvkv/alloc"
	"nvkv/alloc/alloctest"
	"nvkv/nvmap"
)

func TestAllocators(t *testing.T) {
	for name, open := range map[string]alloctest.Open{
		"slabs": func(m *nvmap.Map) (alloc.Allocator, error) { return alloc.OpenSlabs(m) },
		"buddy": func(m *nvmap.Map) (alloc.Allocator, error) { return alloc.OpenBuddy(m) },
	} {
		t.Run(name, func(t *testing.T) { alloctest.TestAllocator(t, open) })
	}
}
