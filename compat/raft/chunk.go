package nvkvraft

import (
	"encoding/binary"
	"fmt"

	"github.com/hashicorp/raft"
	"nvkv/kv"
)

// A chunk is the value of one key: entries of consecutive indexes, each with its length before
// it. The key names the index of the first. So a StoreLogs of 64 small entries writes one or two
// records and not 64, and the index of kv stays small.

// chunkBytes is where a chunk ends and the next begins. A record of this size still lies in a
// slot of a slab; a larger entry has a chunk of its own.
const chunkBytes = 4 << 10

// chunk is a chunk that was read. Nothing changes it afterwards.
type chunk struct {
	first, count uint64
	b            []byte
}

// parseChunk counts the entries in b, which the chunk keeps.
func parseChunk(first uint64, b []byte) (*chunk, error) {
	c := &chunk{first: first, b: b}
	for at := 0; at < len(b); c.count++ {
		_, end, ok := next(b, at)
		if !ok {
			return nil, fmt.Errorf("%w: %d bytes into its chunk", errEntry, at)
		}
		at = end
	}
	if c.count == 0 || c.last() < first {
		return nil, errEntry
	}
	return c, nil
}

// next returns where the entry lies whose length stands at b[at:].
func next(b []byte, at int) (start, end int, ok bool) {
	if at < len(b) && b[at] < 0x80 {
		start, end = at+1, at+1+int(b[at])
		return start, end, end <= len(b)
	}
	size, n := binary.Uvarint(b[at:])
	if n <= 0 || size > uint64(len(b)-at-n) {
		return 0, 0, false
	}
	return at + n, at + n + int(size), true
}

func (c *chunk) last() uint64 { return c.first + c.count - 1 }

func (c *chunk) has(index uint64) bool { return index >= c.first && index <= c.last() }

// find returns where an entry that the chunk has lies: its length at before, itself at start.
func (c *chunk) find(index uint64) (before, start, end int) {
	for i := c.first; ; i++ {
		start, end, _ = next(c.b, before)
		if i == index {
			return before, start, end
		}
		before = end
	}
}

// from and until return the part of b that holds the entries from an index on, and those below
// an index, which the chunk has.
func (c *chunk) from(index uint64) []byte {
	before, _, _ := c.find(index)
	return c.b[before:]
}

func (c *chunk) until(index uint64) []byte {
	before, _, _ := c.find(index)
	return c.b[:before]
}

// encoder turns entries into chunks.
type encoder struct {
	value  []byte // of the chunk that is open
	entry  []byte
	first  uint64
	count  uint64
	commit uint64
	put    func(first uint64, value []byte) error
}

// add adds an entry to the open chunk, or to a new one where it does not continue that.
func (e *encoder) add(l *raft.Log) error {
	e.entry = appendEntry(e.entry[:0], l, e.commit)
	if e.count > 0 && (l.Index != e.first+e.count || len(e.value)+len(e.entry) > chunkBytes) {
		if err := e.flush(); err != nil {
			return err
		}
	}
	if e.count == 0 {
		e.first = l.Index
	}
	e.count++
	e.value = binary.AppendUvarint(e.value, uint64(len(e.entry)))
	e.value = append(e.value, e.entry...)
	return nil
}

// flush ends the open chunk.
func (e *encoder) flush() error {
	if e.count == 0 {
		return nil
	}
	err := e.put(e.first, e.value)
	e.value, e.count = e.value[:0], 0
	return err
}

// reset makes the encoder ready for the next call and drops memory that a large entry took.
func (e *encoder) reset() {
	if e.value, e.count = e.value[:0], 0; cap(e.value)+cap(e.entry) > 1<<20 {
		e.value, e.entry = nil, nil
	}
}

func logKey(dst []byte, index uint64) []byte {
	return binary.BigEndian.AppendUint64(append(dst, 'l'), index)
}

// keyIndex returns the index that a key of a chunk names.
func keyIndex(key []byte) (index uint64, ok bool) {
	if len(key) != 9 || key[0] != 'l' {
		return 0, false
	}
	return binary.BigEndian.Uint64(key[1:]), true
}

// chunkAt returns a copy of the chunk that may hold index: the one with the highest first index
// that is not above it. It is nil where there is none.
func chunkAt(tx *kv.Tx, index uint64) (*chunk, error) {
	above := logEnd
	if index+1 != 0 {
		var key [9]byte
		above = logKey(key[:0], index+1)
	}
	c := tx.Cursor()
	var found *chunk
	var err error
	if c.SeekLT(above) {
		if first, ok := keyIndex(c.Key()); ok {
			found, err = parseChunk(first, append([]byte(nil), c.Value()...))
		}
	}
	if cerr := c.Close(); cerr != nil {
		return nil, cerr
	}
	return found, err
}

// cut removes the entries of [min, max]. A chunk that reaches beyond either bound keeps what
// lies there.
func cut(tx *kv.Tx, min, max uint64) error {
	low, err := chunkAt(tx, min)
	if err != nil {
		return err
	}
	high, err := chunkAt(tx, max)
	if err != nil {
		return err
	}
	end := logEnd
	if max+1 != 0 {
		end = logKey(nil, max+1)
	}
	if err := tx.DeleteRange(logKey(nil, min), end); err != nil {
		return err
	}
	if low != nil && low.first < min && low.has(min) {
		if err := tx.Put(logKey(nil, low.first), low.until(min)); err != nil {
			return err
		}
	}
	if high != nil && high.last() > max {
		return tx.Put(logKey(nil, max+1), high.from(max+1))
	}
	return nil
}
