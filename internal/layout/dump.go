package layout

import (
	"encoding/binary"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Dump prints the contents of a medium.
type Dump struct {
	t      testing.TB
	doc    Doc
	medium []byte
	seen   []bool
	out    strings.Builder
}

// NewDump returns a dump of medium by the tables of doc. A mismatch fails the test.
func NewDump(t testing.TB, doc Doc, medium []byte) *Dump {
	return &Dump{t: t, doc: doc, medium: medium, seen: make([]bool, len(medium))}
}

// Values are the integer fields of a structure, by name.
type Values map[string]uint64

// Section begins a part of the dump.
func (d *Dump) Section(format string, args ...any) {
	if d.out.Len() > 0 {
		d.out.WriteByte('\n')
	}
	fmt.Fprintf(&d.out, format+"\n", args...)
}

// Struct prints the structure of a table at off, and returns its integers.
func (d *Dump) Struct(table string, off int) Values {
	d.t.Helper()
	vals := Values{}
	for _, f := range d.doc.fields(d.t, table) {
		b := d.take(off+f.Off, f.Bytes)
		switch f.Type {
		case "zero":
			if len(trimZeros(b)) > 0 {
				d.t.Errorf("%s at %#x: bytes [%d, %d) are not zero", table, off, f.Off, f.Off+f.Bytes)
			}
			continue
		case "bytes":
			d.line(off+f.Off, b, f.Name, text(b))
			continue
		}
		v := number(b)
		vals[f.Name] = v
		if f.Type[0] == 'x' {
			d.line(off+f.Off, b, f.Name, fmt.Sprintf("%#x", v))
		} else {
			d.line(off+f.Off, b, f.Name, fmt.Sprint(v))
		}
	}
	return vals
}

// Bytes prints n bytes at off as a part of the structure printed last.
func (d *Dump) Bytes(off, n int, name string) []byte {
	d.t.Helper()
	b := d.take(off, n)
	if n > 0 {
		d.line(off, b, name, text(b))
	}
	return b
}

// Ignore marks n bytes at off as explained, because they have no meaning.
func (d *Dump) Ignore(off, n int) { d.take(off, n) }

// take marks bytes as explained.
func (d *Dump) take(off, n int) []byte {
	d.t.Helper()
	if off < 0 || n < 0 || off+n > len(d.medium) {
		d.t.Fatalf("%d bytes at %#x lie outside the medium of %d", n, off, len(d.medium))
	}
	for i := off; i < off+n; i++ {
		d.seen[i] = true
	}
	return d.medium[off : off+n]
}

// shown is the number of bytes that a line shows.
const shown = 24

func (d *Dump) line(off int, b []byte, name, value string) {
	hex := fmt.Sprintf("%x", b)
	if len(b) > shown {
		hex = fmt.Sprintf("%x.. (%d bytes)", b[:shown], len(b))
	}
	if value != "" {
		name += " = " + value
	}
	fmt.Fprintf(&d.out, "%06x: %-16s  # %s\n", off, hex, name)
}

// Unexplained fails the test for every byte of the medium that is not zero and was neither printed
// nor ignored.
func (d *Dump) Unexplained() {
	d.t.Helper()
	for i := 0; i < len(d.medium); i++ {
		if d.seen[i] || d.medium[i] == 0 {
			continue
		}
		from := i
		for i < len(d.medium) && !d.seen[i] && d.medium[i] != 0 {
			i++
		}
		d.t.Errorf("no table explains %d bytes at %#x: %x", i-from, from, d.medium[from:min(i, from+shown)])
	}
}

var update = flag.Bool("update", false, "rewrite the golden dumps under testdata")

// Golden compares the dump with the file at path, and writes the file under -update.
func (d *Dump) Golden(path string) {
	d.t.Helper()
	got := d.out.String()
	if *update {
		if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
			d.t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(got), 0o666); err != nil {
			d.t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		d.t.Fatal(err)
	}
	if at := difference(got, string(want)); at != "" {
		d.t.Errorf("%s is not what is written now: %s\n"+
			"If things only lie elsewhere, run with -update. Else it is a change of format: see docs/format.md, Versions.", path, at)
	}
}

// difference describes the first line that differs. It returns "" if none does.
func difference(got, want string) string {
	if got == want {
		return ""
	}
	g, w := strings.Split(got, "\n"), strings.Split(want, "\n")
	for i := range min(len(g), len(w)) {
		if g[i] != w[i] {
			return fmt.Sprintf("line %d\n got %s\nwant %s", i+1, g[i], w[i])
		}
	}
	return fmt.Sprintf("%d lines, want %d", len(g), len(w))
}

func number(b []byte) uint64 {
	var wide [8]byte
	copy(wide[:], b)
	return binary.LittleEndian.Uint64(wide[:])
}

// text returns bytes as text, or "" if they are not text.
func text(b []byte) string {
	all := len(b)
	if b = trimZeros(b); len(b) == 0 {
		return fmt.Sprintf("%d zeros", all)
	}
	for _, c := range b {
		if c < ' ' || c > '~' {
			return ""
		}
	}
	if len(b) > 2*shown {
		return fmt.Sprintf("%q..", b[:2*shown])
	}
	return fmt.Sprintf("%q", b)
}

func trimZeros(b []byte) []byte {
	for len(b) > 0 && b[len(b)-1] == 0 {
		b = b[:len(b)-1]
	}
	return b
}
