package main

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"time"

	"nvkv/cmd/nvkv/internal/textrec"
	"nvkv/kv"
)

// loadMarkKey is the key of the load mark. A load records its progress in the store, in the same
// batch as the records that the mark counts. The last batch deletes it. So it exists only while a
// load is unfinished; scan and dump leave it out.
const loadMarkKey = "\x00nvkv/load"

func isLoadMark(key []byte) bool { return string(key) == loadMarkKey }

// loadMark says which records of an input are in the store: the first Records of them, whose
// checksum is Sum.
type loadMark struct {
	Source  string `json:"source"`  // as given on the command line
	Records int64  `json:"records"` // good records read
	Line    int    `json:"line"`    // line on which the last of them begins
	Sum     string `json:"sha256"`  // recordSum of them, in hexadecimal
}

// readLoadMark returns the mark of an unfinished load, or nil if there is none.
func readLoadMark(ctx context.Context, db reader) (*loadMark, error) {
	rec, err := db.get(ctx, []byte(loadMarkKey))
	if errors.Is(err, kv.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var m loadMark
	if err := json.Unmarshal(rec.Value, &m); err != nil {
		return nil, fmt.Errorf("mark of an unfinished load (key %q): %w", loadMarkKey, err)
	}
	return &m, nil
}

func (m *loadMark) encode() []byte {
	p, err := json.Marshal(m)
	if err != nil {
		panic(err) // strings and integers always encode
	}
	return p
}

// recordSum is a running checksum of records. If a second reading of an input has the same sum
// after the same number of records, it has read the same records, whatever the file's name, its
// times or the flags.
type recordSum struct{ h hash.Hash }

func newRecordSum() recordSum { return recordSum{sha256.New()} }

func (s recordSum) add(rec *textrec.Record) {
	var lengths [16]byte
	binary.LittleEndian.PutUint64(lengths[:], uint64(len(rec.Key)))
	binary.LittleEndian.PutUint64(lengths[8:], uint64(len(rec.Value)))
	s.h.Write(lengths[:])
	s.h.Write(rec.Key)
	s.h.Write(rec.Value)
	if !rec.Expires.IsZero() {
		s.h.Write([]byte(rec.Expires.UTC().Format(time.RFC3339Nano)))
	}
}

func (s recordSum) hex() string { return hex.EncodeToString(s.h.Sum(nil)) }
