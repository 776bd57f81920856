package alloc

import (
	"encoding/binary"
	"errors"
	"strings"
	"testing"

	"nvkv/nvmap"
)

// headAndSupers returns a map with the beginning of a new store, changed by fn and truncated to
// size bytes.
func headAndSupers(t *testing.T, size int64, fn func(b []byte)) *nvmap.Map {
	t.Helper()
	b := make([]byte, (1+superSlots)*nvmap.PageBytes)
	if err := formatMap(t).Device().Read(0, b); err != nil {
		t.Fatal(err)
	}
	fn(b)
	dev := nvmap.NewMem(1 << 24)
	if err := errors.Join(dev.Grow(size), dev.Write(0, b[:min(int(size), len(b))])); err != nil {
		t.Fatal(err)
	}
	m, err := nvmap.NewMap(dev, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	return m
}

func setVersion(b []byte, v uint32) {
	for slot := 1; slot <= superSlots; slot++ {
		s := b[slot*nvmap.PageBytes:][:nvmap.PageBytes]
		binary.LittleEndian.PutUint32(s[12:], v)
		binary.LittleEndian.PutUint32(s[8:], superSum(s))
	}
}

func setMagic(b []byte, magic uint64) { binary.LittleEndian.PutUint64(b, magic) }

// TestOtherVersions checks that a store of another version is refused with its version and a
// remedy, and that damaged, truncated and foreign files are not taken for one.
func TestOtherVersions(t *testing.T) {
	const whole = 1 << 20
	spoil := func(b []byte) { clear(b[nvmap.PageBytes:]) }
	for _, c := range []struct {
		name string
		size int64
		fn   func(b []byte)
		want error
		says string
	}{
		{"version 1", whole, func(b []byte) { setMagic(b, magicVersion1); setVersion(b, 1) }, ErrVersion, "version is 1"},
		{"version 1, its superblocks gone", whole, func(b []byte) { setMagic(b, magicVersion1); spoil(b) }, ErrVersion, "dump or back it up"},
		{"version 1, cut in its superblocks", 8192, func(b []byte) { setMagic(b, magicVersion1); setVersion(b, 1) }, ErrVersion, "dump or back it up"},
		{"version 1, its head gone", whole, func(b []byte) { setMagic(b, 77); setVersion(b, 1) }, ErrVersion, "dump or back it up"},
		{"version 3", whole, func(b []byte) { setVersion(b, 3) }, ErrVersion, "version is 3"},
		{"this version, the head of another", whole, func(b []byte) { setMagic(b, magicVersion1) }, ErrCorrupt, "magic number"},
		{"this version, cut in its superblocks", 8192, func(b []byte) {}, ErrCorrupt, "cut inside"},
		{"this version, its superblocks gone", whole, spoil, ErrCorrupt, "superblock"},
		{"foreign", whole, func(b []byte) { setMagic(b, 77); spoil(b) }, ErrNotStore, `"M\x00`},
		{"foreign and short", 100, func(b []byte) { setMagic(b, 77) }, ErrNotStore, "not a store"},
		{"the first half of a word", 4, func(b []byte) { setMagic(b, magicVersion1); clear(b[8:]) }, ErrNotStore, "not a store"},
	} {
		m := headAndSupers(t, c.size, c.fn)
		absent, err := Absent(m)
		if absent || err != nil {
			t.Errorf("%s: absent %v, %v", c.name, absent, err)
		}
		if _, err = Open(m); !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", c.name, err)
		}
		if _, err = OpenDamaged(m, func(*CorruptError) {}); c.want == ErrVersion && !errors.Is(err, ErrVersion) {
			t.Errorf("%s, damaged: %v", c.name, err)
		}
	}
}
