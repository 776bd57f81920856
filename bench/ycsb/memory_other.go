//go:build !linux

package ycsb

// allocate gets memory for n operations and their keys from the Go heap.
func (s *Stream) allocate(n int) error {
	s.Ops = make([]Op, n)
	s.memory = make([]byte, n*s.keyBytes)
	s.keys = s.memory
	return nil
}

// Close frees the memory. The stream and its keys must not be used afterwards.
func (s *Stream) Close() error {
	s.memory, s.Ops, s.keys = nil, nil, nil
	return nil
}
