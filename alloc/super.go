package alloc

import (
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"slices"

	"nvkv/nvmap"
)

// These errors of a Region are for errors.Is. ErrFull is nvmap.ErrFull.
var (
	ErrNotStore = errors.New("nvkv: not a store")
	ErrVersion  = errors.New("nvkv: store has another format version")
	ErrCorrupt  = errors.New("nvkv: corrupt")
	ErrFull     = nvmap.ErrFull
)

// StoreID is the random id of a store, made when the store is created. It seeds the checksums of
// its contents, so that contents of an earlier store on the same device do not pass.
type StoreID [16]byte

func (id StoreID) String() string { return hex.EncodeToString(id[:]) }

// Seed returns the part of the id that enters checksums.
func (id StoreID) Seed() uint64 { return binary.LittleEndian.Uint64(id[:]) }

// superblock is the decoded form of a slot.
type superblock struct {
	generation uint64
	id         StoreID
	slabBytes  int
	groupSlabs int
	incompat   uint32 // features that a reader must support
	compat     uint32 // features that a reader may ignore
	payload    []byte
}

// encode returns a whole slot. Layout: magic 8 bytes, checksum 4, version 4, incompat 4, compat 4,
// id 16, generation 8, slab bytes 4, slabs per group 4, payload length 4, zeros up to 80, payload.
func (s *superblock) encode() []byte {
	b := make([]byte, nvmap.PageBytes)
	le := binary.LittleEndian
	le.PutUint64(b[0:], superMagic)
	le.PutUint32(b[12:], FormatVersion)
	le.PutUint32(b[16:], s.incompat)
	le.PutUint32(b[20:], s.compat)
	copy(b[24:40], s.id[:])
	le.PutUint64(b[40:], s.generation)
	le.PutUint32(b[48:], uint32(s.slabBytes))
	le.PutUint32(b[52:], uint32(s.groupSlabs))
	le.PutUint32(b[56:], uint32(len(s.payload)))
	copy(b[superHeaderSize:], s.payload)
	le.PutUint32(b[8:], superSum(b))
	return b
}

func superSum(b []byte) uint32 {
	sum := crc32.Checksum(b[12:], castagnoli)
	return crc32.Update(sum, castagnoli, b[:8])
}

// decodeSuper returns nil if b is no valid slot. version is the format version in a slot with a
// good checksum, else 0.
func decodeSuper(b []byte) (s *superblock, version uint32) {
	le := binary.LittleEndian
	if le.Uint64(b) != superMagic || le.Uint32(b[8:]) != superSum(b) {
		return nil, 0
	}
	version = le.Uint32(b[12:])
	n := le.Uint32(b[56:])
	if version != FormatVersion || n > PayloadBytes {
		return nil, version
	}
	s = &superblock{
		incompat: le.Uint32(b[16:]), compat: le.Uint32(b[20:]),
		generation: le.Uint64(b[40:]),
		slabBytes:  int(le.Uint32(b[48:])),
		groupSlabs: int(le.Uint32(b[52:])),
		payload:    append([]byte(nil), b[superHeaderSize:superHeaderSize+n]...),
	}
	copy(s.id[:], b[24:40])
	return s, version
}

// slotOff returns the offset of copy c (0 or 1) of a generation.
func slotOff(generation uint64, c int) Off {
	return Off(1+2*(generation&1)+uint64(c)) * nvmap.PageBytes
}

// writeSuper writes both copies of s. A2: the second copy is written after the first is fenced, so
// a crash spoils at most one of them.
func writeSuper(m *nvmap.Map, s *superblock, off rules) error {
	b := s.encode()
	for c := range 2 {
		if err := m.WriteBeside(slotOff(s.generation, c), b); err != nil {
			return err
		}
		if c == 0 && off.has(ruleA2) {
			continue
		}
		if err := m.Fence(); err != nil {
			return err
		}
	}
	return nil
}

// readHead returns the magic word of the head page, and whether all of the superblock area is zero.
func readHead(m *nvmap.Map) (magic uint64, zero bool, err error) {
	if m.Size() < (1+superSlots)*nvmap.PageBytes {
		n := m.Size()
		b := make([]byte, n)
		if err := m.Device().Read(0, b); err != nil {
			return 0, false, err
		}
		if n >= 8 {
			magic = binary.LittleEndian.Uint64(b)
		}
		return magic, allZero(b), nil
	}
	b := make([]byte, (1+superSlots)*nvmap.PageBytes)
	if err := m.Device().Read(0, b); err != nil {
		return 0, false, err
	}
	return binary.LittleEndian.Uint64(b), allZero(b), nil
}

func allZero(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}

// Absent reports whether the device holds no store and nothing else either: it is empty or all
// zero, or formatting did not end. A device whose beginning is zero and that holds other data gives
// ErrNotStore.
func Absent(m *nvmap.Map) (bool, error) {
	magic, zero, err := readHead(m)
	switch {
	case err != nil:
		return false, err
	case magic == magicCreating:
		return true, nil
	case !zero:
		return false, nil
	}
	return true, checkBlank(m)
}

// blankBytes is the size of the two ends of a device that must be zero before a store is made
// there. Not every format begins with its signature: btrfs has it at 64 KiB, and partition tables,
// volume managers and zfs keep copies at the end.
const blankBytes = 1 << 20

// checkBlank returns ErrNotStore, with the offset, if the device holds data. It checks every byte
// of a file, because all of them belong to its owner. Of other devices it checks both ends, because
// a former user may have left bytes in between.
func checkBlank(m *nvmap.Map) error {
	if s, ok := m.Device().(nvmap.DataSeeker); ok {
		if err := checkHoles(m, s); !errors.Is(err, errors.ErrUnsupported) {
			return err
		}
	}
	size := m.Size()
	for _, from := range []int64{0, max(0, size-blankBytes)} {
		b := make([]byte, min(size, blankBytes))
		if err := m.Device().Read(Off(from), b); err != nil {
			return err
		}
		for i, c := range b {
			if c != 0 {
				return fmt.Errorf("%w, and in use for something else: there is data at %#x; to make a store there, zero the first and last %d bytes",
					ErrNotStore, from+int64(i), blankBytes)
			}
		}
	}
	return nil
}

// checkHoles returns ErrNotStore, with the offset, if a file holds bytes other than zero.
func checkHoles(m *nvmap.Map, s nvmap.DataSeeker) error {
	b := make([]byte, blankBytes)
	for at := Off(0); at < Off(m.Size()); {
		from, to, err := s.NextData(at)
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		for at = from; at < min(to, Off(m.Size())); {
			part := b[:min(len(b), int(min(to, Off(m.Size()))-at))]
			if err := m.Device().Read(at, part); err != nil {
				return err
			}
			if i := slices.IndexFunc(part, func(c byte) bool { return c != 0 }); i >= 0 {
				return fmt.Errorf("%w, and no empty file: there is data at %#x; if the beginning of a store is lost, nvkv salvage finds the rest", ErrNotStore, uint64(at)+uint64(i))
			}
			at += Off(len(part))
		}
	}
	return nil
}

// readSuper returns the newest superblock of a store whose magic word is want. A2 and A3: each pair
// has a good copy after any crash. So a pair without one is damaged, and the store is refused,
// because that pair may have held the newest generation.
func readSuper(m *nvmap.Map, off rules, want uint64) (*superblock, error) {
	magic, _, err := readHead(m)
	if err != nil {
		return nil, err
	}
	if m.Size() < (1+superSlots)*nvmap.PageBytes {
		if magic == magicVersion1 {
			return nil, otherVersion(1)
		}
		if magic == want {
			return nil, corruptAt(Off(m.Size()), "end of file: it is cut inside the superblocks")
		}
		return nil, notStore(m)
	}
	var newest *superblock
	good := [2]bool{}
	oldest, version := uint32(FormatVersion), uint32(0)
	b := make([]byte, nvmap.PageBytes)
	for pair := range uint64(2) {
		for c := range 2 {
			if err := m.Device().Read(slotOff(pair, c), b); err != nil {
				return nil, err
			}
			s, v := decodeSuper(b)
			version = max(version, v)
			if v != 0 {
				oldest = min(oldest, v)
			}
			if s == nil || s.generation&1 != pair {
				continue
			}
			good[pair] = true
			if newest == nil || s.generation > newest.generation {
				newest = s
			}
		}
	}
	switch {
	case version > FormatVersion:
		return nil, otherVersion(version)
	case oldest < FormatVersion:
		return nil, otherVersion(oldest)
	case magic == magicVersion1 && version == 0: // refused as an old version even if its superblocks are damaged
		return nil, otherVersion(1)
	case magic != want && newest == nil:
		return nil, notStore(m)
	case magic != want:
		return nil, corruptAt(headMagicOff, "magic number")
	case off.has(ruleA3):
		// use any good one
	case !good[0]:
		return nil, corruptAt(slotOff(0, 0), "superblock, both copies of a generation")
	case !good[1]:
		return nil, corruptAt(slotOff(1, 0), "superblock, both copies of a generation")
	case newest.incompat != 0:
		return nil, fmt.Errorf("%w: unknown features %#x", ErrVersion, newest.incompat)
	}
	return newest, nil
}

// otherVersion returns the error for a store of another format version, with a remedy.
func otherVersion(v uint32) error {
	way := "open it with a program that knows that version"
	if v < FormatVersion {
		way = "dump or back it up with the version that wrote it, and load or restore that into a new store"
	}
	return fmt.Errorf("%w: its version is %d, this program's %d; %s", ErrVersion, v, FormatVersion, way)
}

func newStoreID() (id StoreID, err error) {
	_, err = rand.Read(id[:])
	return id, err
}
