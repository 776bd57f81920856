package kv

import (
	"context"
	"errors"
	"io"

	"nvkv/kv/internal/backup"
	"nvkv/kv/internal/record"
)

// Backup writes everything that a snapshot sees to w, in the order of keys, as a stream that
// Restore reads. Each chunk of the stream has a checksum. Expiries are kept; expired records are
// left out. Readers and writers continue meanwhile, and the snapshot pins old versions until the
// backup ends. It returns the number of bytes written. After an error the stream is not a backup.
// If ctx ends, Backup stops between two records with its error.
//
// Backup calls Options.Progress.
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

// Backup is DB.Backup of the state that the Tx sees. The Tx must be read-only. Records that had
// expired when the Tx began are left out.
func (tx *Tx) Backup(ctx context.Context, w io.Writer) (n int64, err error) {
	switch {
	case tx.over():
		return 0, ErrTxClosed
	case tx.w != nil:
		return 0, errBackupOfWriter
	case w == nil:
		return 0, errNil
	}
	return tx.backup(orBackground(ctx), w, tx.db.opt.Progress)
}

// backup is Backup that calls tell, or nothing if that is nil, instead of Options.Progress.
func (tx *Tx) backup(ctx context.Context, w io.Writer, tell func(Progress)) (n int64, err error) {
	if err := tx.begin(); err != nil {
		return 0, err
	}
	defer tx.unlock()
	db := tx.db
	defer db.guarded("backup", panicOnFault(true), &err)
	out := backup.NewWriter(w, &backup.Header{ID: db.r.ID(), At: tx.at, Keys: tx.h.keys})
	p := newProgress("backup", tx.h.keys, tell)
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

// BackupSize returns how many bytes Backup of this Tx writes. It reads what Backup reads: the
// lengths lie in the records.
func (tx *Tx) BackupSize(ctx context.Context) (n int64, err error) {
	switch {
	case tx.over():
		return 0, ErrTxClosed
	case tx.w != nil:
		return 0, errBackupOfWriter
	}
	if err := tx.begin(); err != nil {
		return 0, err
	}
	defer tx.unlock()
	ctx = orBackground(ctx)
	defer tx.db.guarded("backup", panicOnFault(true), &err)
	payload := int64(0)
	err = tx.eachRecord(func(it *item) error {
		payload += backup.RecordBytes(len(it.Key), len(it.Value), it.expiry != 0)
		return ctx.Err()
	})
	if err != nil {
		return 0, err
	}
	return backup.StreamBytes(payload), nil
}

var errBackupOfWriter = errors.New("nvkv: cannot back up a writable transaction, whose changes are not committed")

// item is a record as a backup stores it.
type item struct {
	record.Plain
	expiry int64 // Unix nanoseconds, 0: never
}

// eachRecord calls fn for the records of a read-only Tx in the order of keys. The slices of the
// item are valid until the Tx ends.
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
