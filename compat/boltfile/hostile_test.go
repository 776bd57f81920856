package boltfile_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"hash/fnv"
	"strings"
	"testing"

	"nvkv/compat/boltfile"
)

const pageBytes = 4096

// made returns a file whose pages from 3 on are given by a test. The root is page 3.
func made(pages ...[]byte) []byte {
	out := make([]byte, (3+len(pages))*pageBytes)
	le := binary.LittleEndian
	for number := range uint64(2) {
		b := out[number*pageBytes:]
		le.PutUint64(b, number)
		le.PutUint16(b[8:], 4)
		d := b[16:]
		le.PutUint32(d, 0xED0CDAED)
		le.PutUint32(d[4:], 2)
		le.PutUint32(d[8:], pageBytes)
		le.PutUint64(d[16:], 3)
		le.PutUint64(d[32:], 2)
		le.PutUint64(d[40:], uint64(3+len(pages)))
		le.PutUint64(d[48:], number)
		h := fnv.New64a()
		h.Write(d[:56])
		le.PutUint64(d[56:], h.Sum64())
	}
	freelist := out[2*pageBytes:]
	le.PutUint64(freelist, 2)
	le.PutUint16(freelist[8:], 0x10)
	for i, p := range pages {
		at := out[(3+i)*pageBytes:]
		copy(at, p)
		le.PutUint64(at, uint64(3+i))
	}
	return out
}

type element struct {
	key   string
	child uint64
	value []byte
	flags uint32
}

func branch(es ...element) []byte { return laid(1, es) }
func leaf(es ...element) []byte   { return laid(2, es) }

func laid(kind uint16, es []element) []byte {
	p := make([]byte, 16+16*len(es))
	le := binary.LittleEndian
	le.PutUint16(p[8:], kind)
	le.PutUint16(p[10:], uint16(len(es)))
	for i, e := range es {
		base := 16 + 16*i
		at := uint32(len(p) - base)
		if kind == 1 {
			le.PutUint32(p[base:], at)
			le.PutUint32(p[base+4:], uint32(len(e.key)))
			le.PutUint64(p[base+8:], e.child)
		} else {
			le.PutUint32(p[base:], e.flags)
			le.PutUint32(p[base+4:], at)
			le.PutUint32(p[base+8:], uint32(len(e.key)))
			le.PutUint32(p[base+12:], uint32(len(e.value)))
		}
		p = append(append(p, e.key...), e.value...)
	}
	return p
}

// bucketAt returns the value of a bucket with the given root page.
func bucketAt(page uint64) []byte {
	b := make([]byte, 16)
	binary.LittleEndian.PutUint64(b, page)
	return b
}

// TestHostile reads files with one wrong number, which would lead a trusting reader in circles or
// out of the file.
func TestHostile(t *testing.T) {
	inline := append(bucketAt(0), leaf(element{key: "n", flags: 1, value: append(bucketAt(0), leaf()...)})...)
	deep := leaf(element{key: "b", flags: 1, value: bucketAt(3)})
	for name, c := range map[string]struct {
		file []byte
		want string
	}{
		"a branch names itself":        {made(branch(element{key: "a", child: 3})), "page 3"},
		"two pages name each other":    {made(branch(element{key: "a", child: 4}), branch(element{key: "a", child: 3})), "page"},
		"a branch fans into one page":  {made(branch(element{key: "a", child: 4}, element{key: "b", child: 4}), leaf(element{key: "a"})), "page 4"},
		"a bucket in itself":           {made(deep), "page 3"},
		"two buckets in one page":      {made(leaf(element{key: "a", flags: 1, value: bucketAt(4)}, element{key: "b", flags: 1, value: bucketAt(4)}), leaf()), "page 4"},
		"a branch without children":    {made(branch()), "without children"},
		"a page outside":               {made(branch(element{key: "a", child: 9})), "page 9"},
		"a meta as a page":             {made(branch(element{key: "a", child: 1})), "page 1"},
		"the freelist as a page":       {made(branch(element{key: "a", child: 2})), "kind 0x10"},
		"keys that descend":            {made(leaf(element{key: "b"}, element{key: "a"})), "not above"},
		"a key twice":                  {made(leaf(element{key: "a"}, element{key: "a"})), "not above"},
		"a key in the wrong leaf":      {made(branch(element{key: "a", child: 4}, element{key: "b", child: 5}), leaf(element{key: "c"}), leaf(element{key: "d"})), "another page"},
		"a bucket of 3 bytes":          {made(leaf(element{key: "a", flags: 1, value: []byte("abc")})), "element 0"},
		"a bucket in an inline bucket": {made(leaf(element{key: "a", flags: 1, value: inline})), "not large enough"},
		"an inline bucket is no leaf":  {made(leaf(element{key: "a", flags: 1, value: append(bucketAt(0), branch()...)})), "no leaf"},
		"an element leads out":         {made(poked(leaf(element{key: "a", value: []byte("v")}), 16+12, 5000)), "element 0"},
		"an element leads before":      {made(poked(leaf(element{key: "a"}), 16+4, 0xfffffff0)), "element 0"},
		"elements lie over each other": {made(overlaid()), "over each other"},
		"more elements than fit":       {made(poked(leaf(element{key: "a"}), 8, 0xffff0002)), "element"},
		"more pages than there are":    {made(poked(leaf(element{key: "a"}), 12, 7)), "more pages"},
		"as many pages as can be":      {made(poked(leaf(element{key: "a"}), 12, 0xffffffff)), "more pages"},
		"a page of another's number":   {swapped(made(branch(element{key: "a", child: 4}), leaf())), "page 9"},
	} {
		f, err := boltfile.NewFile(bytes.NewReader(c.file), int64(len(c.file)))
		check(t, err)
		if _, err := read(f); !errors.Is(err, boltfile.ErrCorrupt) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: read: %v", name, err)
		}
		var faults []error
		f.Check(func(err error) bool { faults = append(faults, err); return true })
		if len(faults) == 0 || len(faults) > 10 {
			t.Errorf("%s: check: %v", name, faults)
		}
		_, _, _ = f.Root().Get([]byte("b"))
	}
}

func poked(page []byte, at int, v uint32) []byte {
	binary.LittleEndian.PutUint32(page[at:], v)
	return page
}

// overlaid returns a leaf with two elements that each claim most of the page.
func overlaid() []byte {
	p := make([]byte, pageBytes)
	copy(p, leaf(element{key: "a"}, element{key: "b"}))
	for i, at := range []uint32{32, 17} {
		base := 16 + 16*i
		binary.LittleEndian.PutUint32(p[base+4:], at)
		binary.LittleEndian.PutUint32(p[base+12:], pageBytes-100)
	}
	return p
}

func swapped(file []byte) []byte {
	binary.LittleEndian.PutUint64(file[4*pageBytes:], 9)
	return file
}

// TestCheckFinds checks faults that a walk through the buckets does not meet.
func TestCheckFinds(t *testing.T) {
	lost := made(leaf(), leaf())
	both := made(leaf())
	binary.LittleEndian.PutUint16(both[2*pageBytes+10:], 1)
	binary.LittleEndian.PutUint64(both[2*pageBytes+16:], 3)
	outside := made(leaf())
	binary.LittleEndian.PutUint16(outside[2*pageBytes+10:], 1)
	binary.LittleEndian.PutUint64(outside[2*pageBytes+16:], 77)
	many := made(leaf())
	binary.LittleEndian.PutUint16(many[2*pageBytes+10:], 0xffff)
	binary.LittleEndian.PutUint64(many[2*pageBytes+16:], 1<<60)
	for want, file := range map[string][]byte{
		"page 4: neither reached nor free": lost, "page 3: used twice": both, "page 77": outside, "does not fit": many,
	} {
		f, err := boltfile.NewFile(bytes.NewReader(file), int64(len(file)))
		check(t, err)
		found := ""
		f.Check(func(err error) bool { found += err.Error() + "\n"; return true })
		if !strings.Contains(found, want) {
			t.Errorf("want %q: %s", want, found)
		}
	}
}

// FuzzFile changes bytes of a file, or truncates it. Each call must end, with no more entries than
// the file can hold. The input is places, three bytes each, and the bytes to put there.
func FuzzFile(f *testing.F) {
	whole := image(f)
	f.Add([]byte{0, 3, 8, 1})
	f.Add([]byte{0, 64, 16, 255, 0, 80, 24, 7})
	f.Fuzz(func(t *testing.T, in []byte) {
		if len(in) > 400 {
			return
		}
		bad := bytes.Clone(whole)
		for ; len(in) >= 4; in = in[4:] {
			at := (int(in[0])<<16 | int(in[1])<<8 | int(in[2])) % len(bad)
			bad[at] = in[3]
		}
		if len(in) == 2 {
			bad = bad[:(int(in[0])<<8|int(in[1]))*len(bad)>>16]
		}
		file, err := boltfile.NewFile(bytes.NewReader(bad), int64(len(bad)))
		if err != nil {
			return
		}
		n := 0
		err = file.Root().Walk(context.Background(), func([][]byte, *boltfile.Bucket, boltfile.Entry) error { n++; return nil })
		if n > len(bad)/16 {
			t.Fatalf("%d entries in %d bytes: %v", n, len(bad), err)
		}
		file.Check(func(error) bool { return true })
		_, _, _ = file.Root().Get([]byte{'k'})
	})
}
