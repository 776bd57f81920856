package kv

import (
	"encoding/binary"
	"errors"

	"nvkv/alloc"
	"nvkv/kv/internal/btree"
	"nvkv/kv/internal/record"
	"nvkv/nvmap"
)

// state is the superblock's payload. Format: docs/format.md, "Superblock payload".
type state struct {
	run       uint32        // the opening that wrote it
	interval  uint64        // slabs marked in it or later are scanned by a recovery
	last      record.Number // S: the newest transaction that the index contains
	root      nvmap.PageID
	rootBirth uint64
	height    uint8
	hasLong   bool
	clean     bool   // nothing was written since the freeze (I10)
	epoch     uint64 // of the newest pages of the index
	keys      int64
	leaves    int64
	maps      uint64 // generation of the checkpoint's maps
	digest    uint64 // of the maps that count for the checkpoint
	ended     []endedRun
}

// endedRun is the decision of a recovery about a run since the checkpoint: records above last are
// void for ever, those up to it are complete (R4).
type endedRun struct {
	run  uint32
	last uint64 // counter
}

const (
	stateBytes = 128 // some of them are unused
	stateLong  = 1 << 0
	stateClean = 1 << 1
	endedBytes = 12
	// maxEnded is how many ended runs fit. A recovery takes a checkpoint at checkpointAt, well
	// before.
	maxEnded     = (alloc.PayloadBytes - stateBytes) / endedBytes
	checkpointAt = 64
)

func (s *state) encode() []byte {
	le := binary.LittleEndian
	b := make([]byte, stateBytes, stateBytes+endedBytes*len(s.ended))
	le.PutUint32(b[0:], s.run)
	le.PutUint16(b[4:], uint16(len(s.ended)))
	b[6] = s.height
	if s.hasLong {
		b[7] |= stateLong
	}
	if s.clean {
		b[7] |= stateClean
	}
	le.PutUint64(b[8:], s.interval)
	le.PutUint64(b[16:], uint64(s.last))
	le.PutUint64(b[24:], uint64(s.root))
	le.PutUint64(b[32:], s.epoch)
	le.PutUint64(b[40:], uint64(s.keys))
	le.PutUint64(b[48:], uint64(s.leaves))
	le.PutUint64(b[56:], s.maps)
	le.PutUint64(b[64:], s.digest)
	le.PutUint64(b[72:], s.rootBirth)
	for _, e := range s.ended {
		b = le.AppendUint32(b, e.run)
		b = le.AppendUint64(b, e.last)
	}
	return b
}

// errState says that a payload is not one of this package.
var errState = errors.New("nvkv: superblock payload")

func decodeState(b []byte) (s state, err error) {
	le := binary.LittleEndian
	if len(b) < stateBytes {
		return s, errState
	}
	n := int(le.Uint16(b[4:]))
	if len(b) != stateBytes+endedBytes*n {
		return s, errState
	}
	s = state{
		run: le.Uint32(b[0:]), height: b[6], hasLong: b[7]&stateLong != 0, clean: b[7]&stateClean != 0,
		interval: le.Uint64(b[8:]), last: record.Number(le.Uint64(b[16:])),
		root: nvmap.PageID(le.Uint64(b[24:])), epoch: le.Uint64(b[32:]),
		keys: int64(le.Uint64(b[40:])), leaves: int64(le.Uint64(b[48:])),
		maps: le.Uint64(b[56:]), digest: le.Uint64(b[64:]), rootBirth: le.Uint64(b[72:]),
	}
	for i := range n {
		e := b[stateBytes+endedBytes*i:]
		s.ended = append(s.ended, endedRun{le.Uint32(e), le.Uint64(e[4:])})
	}
	return s, nil
}

// readState returns the payload of the newest superblock.
func readState(r *alloc.Region) (state, error) {
	s, err := decodeState(r.Payload())
	if err == nil && !s.sound(r) {
		err = errState
	}
	if err != nil {
		err = &CorruptError{Off: uint64(r.PayloadOff()), Structure: "superblock payload"}
	}
	return s, err
}

// sound says whether the numbers are possible: counting on from them does not overflow, and the
// counts fit the store.
func (s *state) sound(r *alloc.Region) bool {
	const far = 1 << 62
	pages := int64(r.SlabCount()) * int64(r.SlabBytes()/nvmap.PageBytes)
	if s.run > record.MaxRun || s.last.Run() > s.run || s.interval == 0 || s.interval > alloc.IntervalMost/2 || s.epoch > far || s.maps > r.Generation() {
		return false
	}
	if s.keys < 0 || s.leaves < 0 || s.leaves > pages || s.keys > s.leaves*btree.LeafFanout {
		return false
	}
	before := uint32(0)
	for _, e := range s.ended {
		if e.run <= before || e.run >= s.run || e.last > record.MaxCounter {
			return false
		}
		before = e.run
	}
	return true
}

// counts says whether a recovery has decided that n counts. undecided says that n is of the run
// that wrote the superblock, about which this recovery decides.
func (s *state) counts(n record.Number) (yes, undecided bool) {
	if n.Run() == s.run {
		return false, true
	}
	for _, e := range s.ended {
		if e.run == n.Run() {
			return n.Counter() <= e.last, false
		}
	}
	return false, false // of no known run
}
