package main

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"

	"nvkv/kv"
)

// loadMarkKey is where a load notes, inside the store and in the very batch
// whose records it speaks of, how far it has come. The last batch deletes it.
// It is there only while a load is unfinished; scan and dump leave it out.
const loadMarkKey = "\x00nvkv/load"

func isLoadMark(key []byte) bool { return string(key) == loadMarkKey }

// loadMark says which records of an input are in the store: the first Records
// of them, whose contents Sum stands for.
type loadMark struct {
	Source  string `json:"source"`  // as it was given on the command line
	Records int64  `json:"records"` // good records read
	Line    int    `json:"line"`    // on which the last of them begins
	Sum     string `json:"sha256"`  // recordSum of them, in hexadecimal
}

// readLoadMark returns the mark of an unfinished load; nil if there is none.
func readLoadMark(db *kv.DB) (*loadMark, error) {
	p, err := db.Get([]byte(loadMarkKey))
	if errors.Is(err, kv.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var m loadMark
	if err := json.Unmarshal(p, &m); err != nil {
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

// recordSum is a running checksum of records. A second reading of an input
// that gives the same sum after the same number has read the same records,
// whatever has become of the file's name, its times or the flags.
type recordSum struct{ h hash.Hash }

func newRecordSum() recordSum { return recordSum{sha256.New()} }

func (s recordSum) add(key, value []byte) {
	var lengths [16]byte
	binary.LittleEndian.PutUint64(lengths[:], uint64(len(key)))
	binary.LittleEndian.PutUint64(lengths[8:], uint64(len(value)))
	s.h.Write(lengths[:])
	s.h.Write(key)
	s.h.Write(value)
}

func (s recordSum) hex() string { return hex.EncodeToString(s.h.Sum(nil)) }
