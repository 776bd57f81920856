package ycsb

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// allocate gets memory for n operations and their keys from the kernel and touches all of it, so
// that Bytes is exactly its share of the process.
func (s *Stream) allocate(n int) error {
	opBytes := n * int(unsafe.Sizeof(Op{}))
	if n == 0 {
		return nil
	}
	m, err := unix.Mmap(-1, 0, opBytes+n*s.keyBytes, unix.PROT_READ|unix.PROT_WRITE,
		unix.MAP_ANON|unix.MAP_PRIVATE|unix.MAP_POPULATE)
	if err != nil {
		return err
	}
	s.memory = m
	s.Ops = unsafe.Slice((*Op)(unsafe.Pointer(unsafe.SliceData(m))), n)
	s.keys = m[opBytes:]
	return nil
}

// Close frees the memory. The stream and its keys must not be used afterwards.
func (s *Stream) Close() error {
	m := s.memory
	s.memory, s.Ops, s.keys = nil, nil, nil
	if m == nil {
		return nil
	}
	return unix.Munmap(m)
}
