package nvmap

// CanTruncate returns true: Truncate works.
func (s *Sim) CanTruncate() bool { return true }

// Truncate cuts the device to size, durably. Bytes that a later Grow adds are zero.
func (s *Sim) Truncate(size int64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	was := s.size.Load()
	if size = roundUp(size, PageBytes); size >= was {
		return nil
	}
	if err := s.put(Off(size), make([]byte, was-size)); err != nil {
		return err
	}
	if s.durable != nil {
		s.durable = s.durable[:size]
	}
	s.size.Store(size)
	return nil
}
