package kv

import (
	"context"
	"errors"
	"io"

	"nvkv/kv/internal/backup"
	"nvkv/kv/internal/record"
)

// Backup writes everything that a snapshot sees to w, in the order of keys, as
// a stream that Restore reads: each chunk of it carries a checksum. Expiries are
// kept; what has expired is left out. Readers and writers go on meanwhile, and
// old versions stay until the backup ends, as for any snapshot. It returns the
// bytes written, and after an error the stream is not a backup.
//
// Options.Progress is told how far it is.
func (db *DB) Backup(ctx context.Context, w io.Writer) (n int64, err error) {
	if w == nil {
		return 0, errNil
	}
	tx, err := db.Begin(false)
	if err != nil {
		return 0, err
	}
	defer tx.Rollback()
	return tx.Backup(ctx, w)
}

// Backup is DB.Backup of what the Tx sees, which must be read-only. What has expired
// when the Tx began is left out.
func (tx *Tx) Backup(ctx context.Context, w io.Writer) (n int64, err error) {
	switch {
	case tx.over():
		return 0, ErrTxClosed
	case tx.w != nil:
		return 0, errBackupOfWriter
	case w == nil:
		return 0, errNil
	}
	if err := tx.begin(); err != nil {
		return 0, err
	}
	defer tx.unlock()
	ctx = orBackground(ctx)
	db := tx.db
	defer db.guarded("backup", panicOnFault(true), &err)
	out := backup.NewWriter(w, &backup.Header{ID: db.r.ID(), At: tx.at, Keys: tx.h.keys})
	p := newProgress("backup", tx.h.keys, db.opt.Progress)
	err = tx.eachRecord(func(it *item) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		err := out.Put(it.Key, it.Value, it.expiry)
		p.tell(out.Records(), out.Written(), false)
		return err
	})
	if err != nil {
		return out.Written(), err
	}
	err = out.Finish()
	p.tell(out.Records(), out.Written(), true)
	return out.Written(), err
}

var errBackupOfWriter = errors.New("nvkv: a backup of a writable transaction, which sees what is not committed")

// item is a record with what a backup keeps of it.
type item struct {
	record.Plain
	expiry int64 // Unix nanoseconds, 0: never
}

// eachRecord calls fn for the records of a read-only Tx in the order of keys.
// What fn is given is valid until the Tx ends.
func (tx *Tx) eachRecord(fn func(*item) error) error {
	s := newScanner(tx, nil, false)
	defer s.release()
	err := s.begin()
	for err == nil && !s.done {
		err = s.fill()
		for i := range s.n {
			if err := fn(&item{s.items[i], s.expiry[i]}); err != nil {
				return err
			}
		}
	}
	return err
}
