package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// The log begins with a sector that holds magic, version, number of entries (8 bytes each) and the
// size of a sector (4), all little-endian. The entries follow. An entry is a sector with four words
// (the first sector written, the number of sectors, flags, and the length of a comment), and then
// the data.
const (
	logMagic   = 0x6a736677736872
	logVersion = 1
	superBytes = 28
	entryBytes = 32
)

// These are the flags of an entry.
const (
	flagFlush   = 1 << iota // earlier writes are durable
	flagFUA                 // this write is durable
	flagDiscard             // there is no data; our logs have no such entries
)

// entry is a write, a flush, or both.
type entry struct {
	off   int64 // on the disk, bytes
	n     int64 // bytes written
	flags uint64
	data  int64 // offset of the data in the log
	unit  int64 // bytes of a sector, which is written whole or not at all
}

// end returns where the entry ends in the log.
func (e entry) end() int64 { return e.data + e.n }

var errHole = errors.New("the log lacks entries that it counts")

// unitBytes is the size of a sector if the log does not state one.
const unitBytes = 512

// readLog returns the entries of a log, or none if it is empty. The log's head is written with the
// first flush and is zero before. An incomplete last entry was being written when the log was cut.
func readLog(log io.ReaderAt) ([]entry, error) {
	var super [superBytes]byte
	if n, err := log.ReadAt(super[:], 0); n == 0 && err == io.EOF {
		return nil, nil // nothing was ever written
	} else if err != nil {
		return nil, fmt.Errorf("the head of the log: %w", err)
	}
	magic, version := binary.LittleEndian.Uint64(super[0:]), binary.LittleEndian.Uint64(super[8:])
	count, unit := binary.LittleEndian.Uint64(super[16:]), int64(binary.LittleEndian.Uint32(super[24:]))
	if super == [superBytes]byte{} {
		magic, version, unit = logMagic, logVersion, unitBytes
	}
	if magic != logMagic || version != logVersion || unit < entryBytes || unit&(unit-1) != 0 {
		return nil, fmt.Errorf("no log of writes: magic %#x, version %d, sectors of %d bytes", magic, version, unit)
	}
	var entries []entry
	for at := unit; ; {
		e, next, err := readEntry(log, at, unit)
		if err != nil {
			return nil, err
		}
		if next == at {
			break
		}
		entries, at = append(entries, e), next
	}
	if uint64(len(entries)) < count {
		return nil, fmt.Errorf("%w: %d of %d", errHole, len(entries), count)
	}
	return entries, nil
}

// readEntry returns the entry at a place and the place of the next entry. If there is no entry, the
// two places are equal.
func readEntry(log io.ReaderAt, at, unit int64) (entry, int64, error) {
	var b [entryBytes]byte
	if _, err := log.ReadAt(b[:], at); err == io.EOF {
		return entry{}, at, nil
	} else if err != nil {
		return entry{}, 0, err
	}
	sector, sectors := binary.LittleEndian.Uint64(b[0:]), binary.LittleEndian.Uint64(b[8:])
	flags, mark := binary.LittleEndian.Uint64(b[16:]), binary.LittleEndian.Uint64(b[24:])
	const sectorsMax = 1 << 40
	switch {
	case sectors == 0 && flags == 0:
		return entry{}, at, nil // never written
	case sector > sectorsMax || sectors > sectorsMax || mark != 0 || flags&^(flagFlush|flagFUA) != 0:
		return entry{}, 0, fmt.Errorf("the entry at %#x is none that is known: %x", at, b)
	}
	e := entry{off: int64(sector) * unit, n: int64(sectors) * unit, flags: flags, data: at + unit, unit: unit}
	if e.n > 0 {
		if _, err := log.ReadAt(make([]byte, 1), e.end()-1); err == io.EOF {
			return entry{}, at, nil
		} else if err != nil {
			return entry{}, 0, err
		}
	}
	return e, e.end(), nil
}
