package nvkvraft

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"

	"github.com/hashicorp/go-msgpack/v2/codec"
	"github.com/hashicorp/raft"
	"nvkv/compat/boltfile"
)

// importBatch is how many entries an import writes under one fence.
const importBatch = 1024

// ImportBolt copies the log and the settings of a raft-boltdb file into a new store at path. The
// file stays as it is, and no other process may have it open for writing. There must be nothing
// at path; after an error there is nothing again.
func ImportBolt(ctx context.Context, path, boltPath string, o *Options) (err error) {
	if _, err := os.Lstat(path); err == nil {
		return fmt.Errorf("%s: %w", path, os.ErrExist)
	}
	f, err := boltfile.Open(boltPath)
	if err != nil {
		return err
	}
	defer f.Close()
	s, err := Open(path, o)
	if err != nil {
		return err
	}
	defer func() {
		if err = errors.Join(err, s.Close()); err != nil {
			err = errors.Join(err, os.Remove(path))
		}
	}()
	if err := s.importLogs(ctx, f); err != nil {
		return fmt.Errorf("%s: %w", boltPath, err)
	}
	return s.importSettings(ctx, f)
}

func (s *Store) importLogs(ctx context.Context, f *boltfile.File) error {
	b, err := f.Root().Bucket([]byte("logs"))
	if err != nil {
		return err
	}
	var logs []*raft.Log
	err = b.Each(ctx, func(e boltfile.Entry) error {
		l := new(raft.Log)
		if err := codec.NewDecoderBytes(e.Value, new(codec.MsgpackHandle)).Decode(l); err != nil {
			return fmt.Errorf("entry %x: %w", e.Key, err)
		}
		if len(e.Key) != 8 || binary.BigEndian.Uint64(e.Key) != l.Index {
			return fmt.Errorf("entry %x says that its index is %d", e.Key, l.Index)
		}
		if logs = append(logs, l); len(logs) < importBatch {
			return nil
		}
		err := s.StoreLogs(logs)
		logs = logs[:0]
		return err
	})
	if err != nil {
		return err
	}
	return s.StoreLogs(logs)
}

func (s *Store) importSettings(ctx context.Context, f *boltfile.File) error {
	b, err := f.Root().Bucket([]byte("conf"))
	if err != nil {
		return err
	}
	return b.Each(ctx, func(e boltfile.Entry) error { return s.Set(e.Key, e.Value) })
}
