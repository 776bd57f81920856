package record

import (
	"bytes"
	"math/rand/v2"
	"reflect"
	"testing"

	"nvkv/internal/layout"
)

// made returns a sealed record with random fields, and its bytes, followed by tail.
func made(rng *rand.Rand, seed uint64, carve uint32, tail int) (Record, []byte) {
	r := Record{Number: Number(rng.Uint64()), Count: 1, Kind: KindPut, KeyLen: rng.IntN(40), ValLen: rng.IntN(80)}
	if rng.IntN(2) == 0 {
		r.Flags, r.Ordinal, r.Count = r.Flags|FlagMulti, rng.Uint32(), rng.Uint32()
	}
	if rng.IntN(2) == 0 {
		r.Flags, r.Expiry = r.Flags|FlagExpiry, rng.Int64()
	}
	b := make([]byte, HeaderLen(r.Flags), MaxHeaderBytes+256)
	for range r.KeyLen + r.ValLen {
		b = append(b, byte(rng.Uint32()))
	}
	h := r.PutHeader(b)
	r.Key, r.Value, r.Size = b[h:h+r.KeyLen], b[h+r.KeyLen:], len(b)
	r.Seal(b, BodySum(b[h:]), seed, carve, place)
	for range tail {
		b = append(b, byte(rng.Uint32()))
	}
	return r, b
}

// place is the offset of the records of tests.
const place = 1<<20 + 64

// TestParse: a record is parsed as it was made, whatever bytes follow it. It passes at its place
// and at no other, and Plain accepts it if it is a plain one.
func TestParse(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		want, b := made(rng, 7, 3, rng.IntN(20))
		var r Record
		if !r.Parse(b) || !reflect.DeepEqual(r, want) {
			t.Fatalf("parsed %+v, made %+v", r, want)
		}
		if !r.Sealed(b, 7, 3, place) {
			t.Fatal("does not pass where it was made")
		}
		if r.Sealed(b, 8, 3, place) || r.Sealed(b, 7, 4, place) || r.Sealed(b, 7, 3, place+64) {
			t.Fatal("passes elsewhere")
		}
		for n := range r.Size {
			if new(Record).Parse(b[:n]) {
				t.Fatalf("%d of %d bytes are a record", n, r.Size)
			}
		}
		var p Plain
		if plain := p.Parse(b, 7, 3, place); plain != (r.Expiry == 0 && r.Flags&FlagExpiry == 0) {
			t.Fatalf("plain: %v of %+v", plain, r)
		} else if plain && (!bytes.Equal(p.Key, r.Key) || !bytes.Equal(p.Value, r.Value)) {
			t.Fatal("a plain record is another one")
		}
	}
}

// TestParseRefuses: impossible headers are refused.
func TestParseRefuses(t *testing.T) {
	good := func() Record { return Record{Number: 1, Kind: KindPut, KeyLen: 3, ValLen: 5} }
	for name, change := range map[string]func(*Record){
		"no kind":                  func(r *Record) { r.Kind = 0 },
		"a kind that is not known": func(r *Record) { r.Kind = KindCount },
		"a flag that is not known": func(r *Record) { r.Flags = flagKnown + 1 },
		"a key in runs alone":      func(r *Record) { r.Flags = FlagSpillKey },
		"a key beyond the slot":    func(r *Record) { r.KeyLen = 100 },
		"a value beyond the slot":  func(r *Record) { r.ValLen = 100 },
		"a value that is too long": func(r *Record) { r.ValLen = MaxValueBytes + 1 },
		"a delete with a value":    func(r *Record) { r.Kind = KindDelete },
		"an end that is too long":  func(r *Record) { r.Kind, r.ValLen = KindRange, MaxRangeEnd+1 },
	} {
		r := good()
		change(&r)
		b := make([]byte, 64)
		if r.PutHeader(b); new(Record).Parse(b) {
			t.Errorf("%s: is taken for a record", name)
		}
	}
	b := make([]byte, 64)
	if r := good(); r.PutHeader(b) != HeaderBytes || !r.Parse(b) {
		t.Error("the one that can be is none")
	}
}

// TestFormatConstants: the offsets and sizes in the document and in the code agree.
func TestFormatConstants(t *testing.T) {
	doc := layout.Read(t, "../../../docs/format.md")
	for field, off := range map[string]int{
		"checksum": 0, "number": recNumber, "value bytes": recValLen, "key bytes": recKeyLen, "kind": recKind, "flags": recFlags,
	} {
		if got := doc.Off(t, "Record", field); got != off {
			t.Errorf("%s of a record: %d in the document, %d in the code", field, got, off)
		}
	}
	for table, size := range map[string]int{
		"Record": HeaderBytes, "Record group": MultiBytes, "Record expiry": ExpiryBytes,
		"Run list": ListHeaderBytes, "Extent": runEntryBytes,
	} {
		if got := doc.Size(t, table); got != size {
			t.Errorf("%s: %d bytes in the document, %d in the code", table, got, size)
		}
	}
}

// FuzzParse: a parsed record does not reach outside its bytes, Plain and Record agree, and a parsed
// header is written as it was.
func FuzzParse(f *testing.F) {
	rng := rand.New(rand.NewPCG(3, 4))
	for range 8 {
		_, b := made(rng, 7, 3, 4)
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var r Record
		var p Plain
		plain := p.Parse(b, 7, 3, place)
		if !r.Parse(b) {
			if plain {
				t.Fatal("plain, but no record")
			}
			return
		}
		if r.Size > len(b) || r.Size < HeaderLen(r.Flags) {
			t.Fatalf("%d of %d bytes", r.Size, len(b))
		}
		if sealed := r.Sealed(b, 7, 3, place); plain && !sealed {
			t.Fatal("plain, but not sealed")
		}
		again := bytes.Clone(b)
		if h := r.PutHeader(again); h != HeaderLen(r.Flags) || !bytes.Equal(again, b) {
			t.Fatalf("% x was written again as % x", b[:h], again[:h])
		}
		if r.Seal(again, BodySum(again[HeaderLen(r.Flags):r.Size]), 7, 3, place); !r.Sealed(again, 7, 3, place) {
			t.Fatal("does not pass though it was sealed")
		}
	})
}
