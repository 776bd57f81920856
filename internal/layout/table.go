package layout

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
)

// Field is a row of a table.
type Field struct {
	Off   int
	Bytes int
	Type  string // u8 to u64: decimal, x8 to x64: hexadecimal, bytes, zero
	Name  string
}

// Doc holds the tables of a format document, each by the heading above it.
type Doc map[string][]Field

// Read parses the document at path. It uses the tables whose header begins with "offset".
func Read(t testing.TB, path string) Doc {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	doc, err := parse(string(text))
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return doc
}

func parse(text string) (Doc, error) {
	doc := Doc{}
	heading, inTable := "", false
	for i, line := range strings.Split(text, "\n") {
		switch {
		case strings.HasPrefix(line, "#"):
			heading = strings.TrimSpace(strings.TrimLeft(line, "#"))
		case strings.HasPrefix(line, "| offset |"):
			if doc[heading] != nil {
				return nil, fmt.Errorf("line %d: a second table below %q", i+1, heading)
			}
			inTable = true
		case !strings.HasPrefix(line, "|"):
			inTable = false
		case inTable && !strings.HasPrefix(line, "|-"):
			f, err := parseRow(line)
			if err != nil {
				return nil, fmt.Errorf("line %d: %w", i+1, err)
			}
			doc[heading] = append(doc[heading], f)
		}
	}
	return doc, doc.validate()
}

func parseRow(line string) (f Field, err error) {
	cells := strings.Split(strings.Trim(line, "|"), "|")
	if len(cells) < 4 {
		return f, fmt.Errorf("%d columns, want 4 or more", len(cells))
	}
	for i := range cells {
		cells[i] = strings.TrimSpace(cells[i])
	}
	f.Type, f.Name = cells[2], cells[3]
	if f.Off, err = strconv.Atoi(cells[0]); err != nil {
		return f, err
	}
	if f.Bytes, err = strconv.Atoi(cells[1]); err != nil {
		return f, err
	}
	return f, f.validate()
}

// validate returns an error if the width of an integer field differs from its type.
func (f *Field) validate() error {
	switch {
	case f.Bytes <= 0:
		return fmt.Errorf("field %q has %d bytes", f.Name, f.Bytes)
	case f.Type == "bytes" || f.Type == "zero":
		return nil
	case f.Type != fmt.Sprint("u", 8*f.Bytes) && f.Type != fmt.Sprint("x", 8*f.Bytes):
		return fmt.Errorf("field %q of %d bytes has type %q", f.Name, f.Bytes, f.Type)
	}
	return nil
}

// validate returns an error if the fields of a table are not adjacent.
func (d Doc) validate() error {
	for name, table := range d {
		at := 0
		for _, f := range table {
			if f.Off != at {
				return fmt.Errorf("table %q: field %q begins at %d, the one before it ends at %d", name, f.Name, f.Off, at)
			}
			at += f.Bytes
		}
	}
	return nil
}

// Size returns the size of a structure in bytes.
func (d Doc) Size(t testing.TB, table string) int {
	t.Helper()
	fields := d.fields(t, table)
	last := fields[len(fields)-1]
	return last.Off + last.Bytes
}

// Off returns the offset of a field in a structure.
func (d Doc) Off(t testing.TB, table, field string) int {
	t.Helper()
	for _, f := range d.fields(t, table) {
		if f.Name == field {
			return f.Off
		}
	}
	t.Fatalf("table %q has no field %q", table, field)
	return 0
}

func (d Doc) fields(t testing.TB, table string) []Field {
	t.Helper()
	fields := d[table]
	if len(fields) == 0 {
		t.Fatalf("the document has no table %q", table)
	}
	return fields
}
