package nvmap

// A stage collects writes to a file until a fence, so that neighbouring writes share a system call.
// It holds runs of bytes in one buffer, in order of arrival. Runs never overlap.
type stage struct {
	file stagedFile
	buf  []byte
	runs []stagedRun
}

// stagedFile is the file that a stage writes to. peek copies bytes of the file cheaply.
type stagedFile interface {
	WriteAt(p []byte, off int64) (int, error)
	peek(p []byte, off int64) error
}

// stagedRun describes staged bytes: [off, off+n) of the file, at buf[at:at+n].
type stagedRun struct {
	off int64
	at  int
	n   int
}

const (
	stageBytes = 256 << 10 // size of the buffer; a write of more than a quarter goes to the file at once
	stageRuns  = 64        // every write searches them linearly
	stageGap   = 64        // gap between two writes that is bridged, in bytes
)

// touches reports whether a staged byte lies in [off, off+n).
func (s *stage) touches(off, n int64) bool {
	for _, r := range s.runs {
		if off < r.off+int64(r.n) && r.off < off+n {
			return true
		}
	}
	return false
}

// write stages p for off. It writes a large p to the file at once.
func (s *stage) write(off int64, p []byte) error {
	if len(p) == 0 {
		return nil
	}
	if s.overwrite(off, p) || s.extend(off, p) {
		return nil
	}
	full := len(s.runs) == stageRuns || len(s.buf)+len(p) > stageBytes
	if full || s.touches(off, int64(len(p))) {
		if err := s.flush(); err != nil {
			return err
		}
	}
	if len(p) > stageBytes/4 {
		return s.put(off, p)
	}
	s.runs = append(s.runs, stagedRun{off, len(s.buf), len(p)})
	s.buf = append(s.buf, p...)
	return nil
}

// overwrite changes staged bytes if all of p lies in one run.
func (s *stage) overwrite(off int64, p []byte) bool {
	for _, r := range s.runs {
		if off >= r.off && off+int64(len(p)) <= r.off+int64(r.n) {
			copy(s.buf[r.at+int(off-r.off):], p)
			return true
		}
	}
	return false
}

// extend appends p to the last run if p continues it and overlaps no other. It bridges a small gap,
// such as the unused end of a slot, with the bytes of the file: a batch of records is then one
// system call instead of many. The bridged bytes cannot change meanwhile, because every write to
// the file goes through the stage.
func (s *stage) extend(off int64, p []byte) bool {
	if len(s.runs) == 0 {
		return false
	}
	last := &s.runs[len(s.runs)-1]
	end := last.off + int64(last.n)
	gap := off - end
	if gap < 0 || gap > stageGap || len(s.buf)+int(gap)+len(p) > stageBytes ||
		s.touches(end, gap+int64(len(p))) {
		return false
	}
	if gap > 0 {
		var bridge [stageGap]byte
		if s.file.peek(bridge[:gap], end) != nil {
			return false
		}
		s.buf = append(s.buf, bridge[:gap]...)
	}
	s.buf = append(s.buf, p...)
	last.n += int(gap) + len(p)
	return true
}

// flush writes all staged bytes. Runs that could not be written stay staged.
func (s *stage) flush() error {
	for i, r := range s.runs {
		if err := s.put(r.off, s.buf[r.at:r.at+r.n]); err != nil {
			s.runs = s.runs[i:]
			return err
		}
	}
	s.runs, s.buf = s.runs[:0], s.buf[:0]
	return nil
}

func (s *stage) put(off int64, p []byte) error {
	if _, err := s.file.WriteAt(p, off); err != nil {
		return &FaultError{Off: Off(off), Op: "write", Err: err}
	}
	return nil
}
