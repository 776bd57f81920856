package hashindex

import (
	"unsafe"

	"nvkv/nvmap"
)

// allocate returns n empty buckets, each in a cache line of its own, and how to give them back.
func allocate(n int) ([]bucket, func(), error) {
	b, release, err := nvmap.Memory(int64(n) * BucketBytes)
	if err != nil {
		return nil, nil, err
	}
	return unsafe.Slice((*bucket)(unsafe.Pointer(unsafe.SliceData(b))), n), release, nil
}

// Ask prefetches the bucket of a hash.
func (x *Index) Ask(h uint64) {
	if t := x.now.Load(); t != nil {
		nvmap.Prefetch(unsafe.Pointer(t.bucket(h)), 1)
	}
}
