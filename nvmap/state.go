package nvmap

import (
	"sync/atomic"
	"unsafe"
)

// The state words of a map lie in a region of their own. The race detector must see them: it takes
// a page that is published through an atomic outside the Go heap for a race. So in race builds they
// lie in blocks on the heap, which are made when they are first used. So a map costs the pages that
// it uses and not the size to which it may grow. Frames may lie outside the heap: the detector does
// not look at them there.

// wordsPerBlock state words are made at a time, those of 64 MiB.
const wordsPerBlock = 16 << 10

type wordBlock [wordsPerBlock]uint64

// heapWords are the blocks; it is empty unless the state words lie in blocks.
type heapWords []atomic.Pointer[wordBlock]

// makeWords reserves the state words. It returns nil if they lie in blocks.
func (m *Map) makeWords() (*region, error) {
	n := m.mirror.bytes / PageBytes
	if raceEnabled && !onHeap() {
		m.heaped = make(heapWords, (n+wordsPerBlock-1)/wordsPerBlock)
		return nil, nil
	}
	words, err := memory(max(regionSize(n*8, false), hugeBytes))
	if err != nil {
		return nil, err
	}
	m.state, m.words = words.base, words
	m.max = min(m.max, words.bytes/8*PageBytes)
	return words, nil
}

// openWords makes bytes [from, to) of the state words accessible.
func (m *Map) openWords(from, to int64) error {
	if m.words == nil {
		return nil
	}
	if err := m.words.open(from, to); err != nil {
		return err
	}
	if m.huge {
		m.words.preferHuge(from, to)
	}
	return nil
}

func (m *Map) word(p PageID) *uint64 {
	if raceEnabled && len(m.heaped) > 0 {
		return m.heaped.word(p & m.mask)
	}
	return (*uint64)(unsafe.Add(m.state, (p&m.mask)*8))
}

func (h heapWords) word(p PageID) *uint64 {
	at := &h[p/wordsPerBlock]
	b := at.Load()
	if b == nil {
		at.CompareAndSwap(nil, new(wordBlock))
		b = at.Load()
	}
	return &b[p%wordsPerBlock]
}
