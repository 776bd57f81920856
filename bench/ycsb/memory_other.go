//go:build !linux

package ycsb

// allocate takes room for n operations and their keys from the Go heap.
func (s *Stream) allocate(n int) error {
	s.Ops = make([]Op, n)
	s.memory = make([]byte, n*s.keyBytes)
	s.keys = s.memory
	return nil
}

// Close gives the memory back. The stream and its keys must not be used any
// more.
func (s *Stream) Close() error {
	s.memory, s.Ops, s.keys = nil, nil, nil
	return nil
}
