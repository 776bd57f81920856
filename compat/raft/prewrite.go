package nvkvraft

import (
	"context"
	"errors"

	"nvkv/kv"
)

// On a plain file the first write to a block costs more than the next ones: the fdatasync behind
// it has to make the block itself durable, in the file system's journal, and the growth of the
// file before it too. A log writes to new blocks all the time until entries are deleted. So Open
// writes free space once, which the store keeps and appends use.

const (
	prewriteBytes = 16 << 20
	prewritePiece = 1 << 20
)

var (
	prewriteStart = []byte("p")
	prewriteEnd   = []byte("q")
)

// prewrite makes free space of blocks that were written, unless the store has some.
func (s *Store) prewrite(o *Options) error {
	want := o.PrewriteBytes
	if want == 0 && s.db.Info().Kind == "file" {
		want = prewriteBytes
	}
	if o.MaxBytes > 0 {
		want = min(want, o.MaxBytes/4)
	}
	if o.ReadOnly || want <= 0 || s.db.Metrics().FreeBytes >= want/2 {
		return nil
	}
	want = min(want, 255*prewritePiece)
	piece := make([]byte, min(prewritePiece, want))
	for i := range byte(want / int64(len(piece))) {
		if err := s.db.Put([]byte{prewriteStart[0], i}, piece); errors.Is(err, kv.ErrFull) {
			break // a full disk is no reason not to open
		} else if err != nil {
			return err
		}
	}
	// Deleted pieces, also those of an opening that was cut off, are free after a checkpoint.
	if err := s.db.DeleteRange(prewriteStart, prewriteEnd); err != nil {
		return err
	}
	return s.db.Checkpoint(context.Background())
}
