package ycsb

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"strconv"
)

// Hash is YCSB's 64-bit FNV-1 variant over the eight bytes of n, low byte first, without the sign.
func Hash(n uint64) uint64 {
	const offset, prime = 0xCBF29CE484222325, 1099511628211
	h := uint64(offset)
	for range 8 {
		h = (h ^ n&0xff) * prime
		n >>= 8
	}
	if int64(h) < 0 {
		h = -h
	}
	return h
}

// AppendKey appends the key of record n: "user" and its number, hashed unless
// inserts are ordered, padded to KeyDigits.
func (w *Workload) AppendKey(dst []byte, n uint64) []byte {
	if !w.OrderedInserts {
		n = Hash(n)
	}
	dst = append(dst, "user"...)
	var digits [20]byte
	d := strconv.AppendUint(digits[:0], n, 10)
	for range w.KeyDigits - len(d) {
		dst = append(dst, '0')
	}
	return append(dst, d...)
}

// Version identifies a write: operation op of a thread's stream in a phase. Phases and threads
// count from 1 within a store. 0 is no write.
type Version uint64

// MakeVersion joins the parts: 12 bits of phase, 12 of thread, 40 of op.
func MakeVersion(phase, thread int, op uint64) Version {
	return Version(uint64(phase)<<52 | uint64(thread)<<40 | (op + 1))
}

// Stream returns the phase and thread that wrote v, Op the operation.
func (v Version) Stream() (phase, thread int) { return int(v >> 52), int(v >> 40 & 0xfff) }

// Op returns the number of the writing operation within its stream.
func (v Version) Op() uint64 { return uint64(v)&(1<<40-1) - 1 }

func (v Version) String() string {
	phase, thread := v.Stream()
	return fmt.Sprintf("phase %d thread %d op %d", phase, thread, v.Op())
}

const (
	stampBytes = 16 // record number and version, 8 bytes each, at the beginning of a field
	poolBytes  = 1 << 20
)

// pool is the source of the bytes of values. It is incompressible, so that no engine gains more by
// compression than with real data.
var pool = makePool()

func makePool() []byte {
	p := make([]byte, 2*poolBytes)
	x := uint64(1)
	for i := 0; i < poolBytes; i += 8 {
		x += 0x9E3779B97F4A7C15
		binary.LittleEndian.PutUint64(p[i:], mix(x))
	}
	copy(p[poolBytes:], p) // a run of bytes may begin anywhere in the first half
	return p
}

// mix is the finalizer of splitmix64.
func mix(x uint64) uint64 {
	x = (x ^ x>>30) * 0xBF58476D1CE4E5B9
	x = (x ^ x>>27) * 0x94D049BB133111EB
	return x ^ x>>31
}

// ValueBytes returns the length of the longest value.
func (w *Workload) ValueBytes() int {
	if w.FieldLengths == ConstantLength {
		return w.Fields * w.FieldBytes
	}
	return w.Fields * (w.FieldBytes + binary.MaxVarintLen32)
}

// AppendValue appends the value that version v gives record n.
func (w *Workload) AppendValue(dst []byte, n uint64, v Version) []byte {
	for f := range w.Fields {
		dst = w.appendField(dst, n, v, f)
	}
	return dst
}

// PatchValue appends value with one field replaced by its content at v, as an update with
// writeallfields=false does.
func (w *Workload) PatchValue(dst, value []byte, n uint64, v Version, field int) ([]byte, error) {
	rest := value
	for f := range w.Fields {
		_, next, err := w.cutField(rest, n)
		if err != nil {
			return nil, fmt.Errorf("field %d: %w", f, err)
		}
		if f == field {
			dst = w.appendField(dst, n, v, f)
		} else {
			dst = append(dst, rest[:len(rest)-len(next)]...)
		}
		rest = next
	}
	return dst, nil
}

func (w *Workload) appendField(dst []byte, n uint64, v Version, f int) []byte {
	seed := mix(n<<20 ^ uint64(v)*0x9E3779B97F4A7C15 ^ uint64(f))
	size := w.fieldBytes(seed)
	if w.FieldLengths != ConstantLength {
		dst = binary.AppendUvarint(dst, uint64(size))
	}
	var stamp [stampBytes]byte
	binary.LittleEndian.PutUint64(stamp[:], n)
	binary.LittleEndian.PutUint64(stamp[8:], uint64(v))
	dst = append(dst, stamp[:min(size, stampBytes)]...)
	for size -= min(size, stampBytes); size > 0; {
		from := seed % poolBytes
		chunk := min(size, poolBytes)
		dst = append(dst, pool[from:from+uint64(chunk)]...)
		size -= chunk
	}
	return dst
}

// fieldBytes returns the length of the field with the given seed.
func (w *Workload) fieldBytes(seed uint64) int {
	span := float64(w.FieldBytes - w.FieldBytesMin + 1)
	u := float64(seed>>11) / (1 << 53)
	switch w.FieldLengths {
	case Uniform:
		return w.FieldBytesMin + int(u*span)
	case Zipfian: // the continuous form: density proportional to 1/x
		return w.FieldBytesMin + int(math.Pow(span, u)) - 1
	}
	return w.FieldBytes
}

// cutField splits the first field off a value.
func (w *Workload) cutField(value []byte, n uint64) (content, rest []byte, err error) {
	size := uint64(w.FieldBytes)
	if w.FieldLengths != ConstantLength {
		var width int
		size, width = binary.Uvarint(value)
		if width <= 0 {
			return nil, nil, fmt.Errorf("record %d: the field's length is cut off", n)
		}
		value = value[width:]
	}
	if size > uint64(len(value)) {
		return nil, nil, fmt.Errorf("record %d: the field has %d bytes, %d are there", n, size, len(value))
	}
	return value[:size], value[size:], nil
}

// CheckValue checks that value belongs to some version of record n, and returns the newest version
// of its fields, or 0 if the fields are too short to hold one.
func (w *Workload) CheckValue(value []byte, n uint64) (newest Version, err error) {
	rest := value
	for f := range w.Fields {
		var content []byte
		if content, rest, err = w.cutField(rest, n); err != nil {
			return 0, fmt.Errorf("field %d: %w", f, err)
		}
		v, err := w.checkField(content, n, f)
		if err != nil {
			return 0, fmt.Errorf("record %d, field %d: %w", n, f, err)
		}
		newest = max(newest, v)
	}
	if len(rest) != 0 {
		return 0, fmt.Errorf("record %d: %d bytes behind the last field", n, len(rest))
	}
	return newest, nil
}

func (w *Workload) checkField(content []byte, n uint64, f int) (Version, error) {
	var number [8]byte
	binary.LittleEndian.PutUint64(number[:], n)
	if head := min(8, len(content)); !bytes.Equal(content[:head], number[:head]) {
		return 0, fmt.Errorf("holds the bytes of another record: %x", content[:head])
	}
	if len(content) < stampBytes {
		return 0, nil
	}
	v := Version(binary.LittleEndian.Uint64(content[8:]))
	want := w.appendField(make([]byte, 0, len(content)+binary.MaxVarintLen32), n, v, f)
	if !bytes.HasSuffix(want, content) || len(want)-len(content) >= binary.MaxVarintLen32 {
		return 0, fmt.Errorf("damaged: does not follow from %v", v)
	}
	return v, nil
}
