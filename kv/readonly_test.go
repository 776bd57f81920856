package kv

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"nvkv/nvmap"
)

// diesAfter is a device that loses all writes after some number of them.
type diesAfter struct {
	nvmap.Device
	writes int
}

func (d *diesAfter) Write(o nvmap.Off, p []byte) error {
	if d.writes--; d.writes < 0 {
		return nil
	}
	return d.Device.Write(o, p)
}

func (*diesAfter) Close() error { return nil }

// TestReadOnlyOfFirstCommit: a read-only recovery makes index pages in DRAM. A store that died in
// its first commit may have no free slab for them.
func TestReadOnlyOfFirstCommit(t *testing.T) {
	all := model{}
	for i := range 10 {
		all[fmt.Sprint(i)] = "v"
	}
	for writes := 0; ; writes++ {
		base := nvmap.NewMem(8 << 20)
		dev := &diesAfter{base, writes}
		db, err := OpenDevice(dev, &Options{SlabBytes: 4096, EvacuateBytes: -1})
		if err != nil {
			continue // it read bytes that the device had lost
		}
		b := db.NewBatch()
		for k, v := range all {
			b.Put([]byte(k), []byte(v))
		}
		must(t, db.Write(b))
		abandon(db)
		db, err = OpenDevice(&diesAfter{base, 0}, &Options{ReadOnly: true})
		switch {
		case errors.Is(err, ErrNotStore): // not created yet
		case err != nil:
			t.Errorf("after %d writes: %v", writes, err)
		case db.Metrics().Keys > 0:
			all.compare(t, db)
			mustCheck(t, db)
		default:
			model{}.compare(t, db)
			mustCheck(t, db)
		}
		if db != nil {
			must(t, db.Close())
		}
		must(t, base.Close())
		if dev.writes >= 0 {
			return
		}
	}
}

// TestReadOnlyOfNothing: if there is nothing at the path, the error says only that.
func TestReadOnlyOfNothing(t *testing.T) {
	path := filepath.Join(testDir(t), "s")
	must(t, os.WriteFile(path, nil, 0o600))
	for _, device := range []string{"", "file", "mem"} {
		_, err := Open(path, &Options{ReadOnly: true, Device: device})
		wantErr(t, "Open", err, ErrNotStore)
		if strings.Contains(err.Error(), "invalid argument") {
			t.Errorf("device %q: %v", device, err)
		}
	}
}

// TestReadOnlyReplayGrowsLittle: a read-only opening of a killed store makes its index pages in
// DRAM. It used to add slabs for each record, since no free slab was known to have blocks.
func TestReadOnlyReplayGrowsLittle(t *testing.T) {
	dev := keptDevice{nvmap.NewMem(64 << 20)}
	db, err := OpenDevice(dev, &Options{EvacuateBytes: NoEvacuation})
	must(t, err)
	m := model{}
	for i := range 3000 {
		k := fmt.Sprintf("%08d", i)
		m[k] = strings.Repeat("v", 100)
		must(t, db.Put([]byte(k), []byte(m[k])))
	}
	size := db.Metrics().DeviceBytes
	abandon(db)
	db, err = OpenDevice(dev, &Options{ReadOnly: true})
	must(t, err)
	defer abandon(db)
	m.compare(t, db)
	if got := db.Metrics().DeviceBytes; got > 2*size {
		t.Errorf("a store of %d bytes has %d bytes when it is opened to be read", size, got)
	}
}
