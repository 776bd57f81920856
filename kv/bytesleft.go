package kv

import "nvkv/kv/internal/record"

// bytesLeft bounds what a walk reads in runs: the records that one state of the store has
// do not share any, so they have no more than there is. Lists that name the same pages may
// say as much for every record.
type bytesLeft int64

func (db *DB) bytesLeft() bytesLeft { return bytesLeft(db.m.End()) }

// of counts what a record has in runs, and returns an error if that is too much.
func (b *bytesLeft) of(rec *record.Record) error {
	if *b -= bytesLeft(rec.SpilledBytes()); *b < 0 {
		return &CorruptError{Off: uint64(rec.Off), Structure: "runs of a record, which others have too,"}
	}
	return nil
}
