package kv

import (
	"context"
	"io"
)

// Backup writes everything that a snapshot sees to w, in the order of keys, as
// a stream that Restore reads: each chunk of it carries a checksum. Expiries are
// kept; what has expired is left out. Readers and writers go on meanwhile, and
// old versions stay until the backup ends, as for any snapshot. It returns the
// bytes written, and after an error the stream is not a backup.
//
// Options.Progress is told how far it is.
func (db *DB) Backup(ctx context.Context, w io.Writer) (n int64, err error) {
	tx, err := db.Begin(false)
	if err != nil {
		return 0, err
	}
	defer tx.Rollback()
	defer db.guarded("backup", panicOnFault(true), &err)
	out := newStreamWriter(w, &streamHeader{id: db.r.ID(), at: tx.at, keys: tx.h.keys})
	p := newProgress("backup", tx.h.keys, db.opt.Progress)
	err = tx.eachRecord(func(it *item) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		out.record(it.key, it.value, it.expiry)
		p.tell(int64(out.records), out.written, false)
		return out.err
	})
	if err != nil {
		return out.written, err
	}
	err = out.finish()
	p.tell(int64(out.records), out.written, true)
	return out.written, err
}

// item is a record with what a backup keeps of it.
type item struct {
	plain
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
