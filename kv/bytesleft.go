package kv

import "nvkv/kv/internal/record"

// bytesLeft bounds how much a walk reads in runs. The records of one state share no runs, so
// together they cannot have more bytes in runs than the device has. In a damaged store all run
// lists might name the same pages.
type bytesLeft int64

func (db *DB) bytesLeft() bytesLeft { return bytesLeft(db.m.End()) }

// of counts the bytes that a record has in runs, and returns an error if the bound is exceeded.
func (b *bytesLeft) of(rec *record.Record) error {
	if *b -= bytesLeft(rec.SpilledBytes()); *b < 0 {
		return &CorruptError{Off: uint64(rec.Off), Structure: "runs that several records share,"}
	}
	return nil
}
