package textrec

import (
	"bufio"
	"encoding/base64"
	"encoding/csv"
	"errors"
	"io"
	"unicode"
	"unicode/utf8"
)

// A Writer writes records in one format. After the first error, later calls write nothing and
// return it.
type Writer struct {
	// KeysOnly leaves the values out. Set it before the first record.
	KeysOnly bool

	// Expiring gives csv and tsv the column expires_at. Set it before the first record. Without it,
	// a record that expires is an error.
	Expiring bool

	// Unended counts the records that expire and were written in the format lines, which cannot
	// express that.
	Unended int64

	f       Format
	w       *bufio.Writer
	csv     *csv.Writer
	buf     []byte
	row     [4]string
	started bool
}

// NewWriter returns a writer to w. It buffers: call Flush at the end.
func NewWriter(w io.Writer, f Format) *Writer {
	b := bufio.NewWriterSize(w, 1<<16)
	return &Writer{f: f, w: b, csv: csv.NewWriter(b)}
}

// ErrNoColumn is the error of Write for a record that expires if Expiring is not set.
var ErrNoColumn = errors.New("a record expires, and the rows have no column " + expiresField)

// HasColumns reports whether a format has the column of Expiring.
func (f Format) HasColumns() bool { return f == CSV || f == TSV }

// Write writes one record.
func (w *Writer) Write(rec Record) error {
	if w.KeysOnly {
		rec.Value = nil
	}
	if w.f.HasColumns() && !w.Expiring && !rec.Expires.IsZero() {
		return ErrNoColumn
	}
	if err := w.start(); err != nil {
		return err
	}
	switch w.f {
	case CSV:
		return w.csv.Write(w.fields(rec))
	case TSV:
		w.appendTSV(w.fields(rec))
	case Lines:
		w.appendLine(rec)
	default:
		w.appendObject(rec)
	}
	_, err := w.w.Write(w.buf)
	return err
}

// Flush writes the buffer out. A file without records gets its header.
func (w *Writer) Flush() error {
	if err := w.start(); err != nil {
		return err
	}
	w.csv.Flush()
	if err := w.csv.Error(); err != nil {
		return err
	}
	return w.w.Flush()
}

// start writes the header row of the formats that have one.
func (w *Writer) start() error {
	if w.started {
		return nil
	}
	w.started = true
	header := w.columns("key", "value", "base64", expiresField)
	switch w.f {
	case CSV:
		return w.csv.Write(header)
	case TSV:
		w.appendTSV(header)
		_, err := w.w.Write(w.buf)
		return err
	}
	return nil
}

func (w *Writer) columns(key, value, marker, expires string) []string {
	row := append(w.row[:0], key)
	if !w.KeysOnly {
		row = append(row, value)
	}
	row = append(row, marker)
	if w.Expiring {
		row = append(row, expires)
	}
	return row
}

// fields returns the row of a record.
func (w *Writer) fields(rec Record) []string {
	marker, expires := marker(!w.isText(rec.Key), !w.isText(rec.Value)), ""
	if !rec.Expires.IsZero() {
		expires = string(appendExpiry(nil, rec.Expires))
	}
	return w.columns(encoded(rec.Key, marker, "key"), encoded(rec.Value, marker, "value"), marker, expires)
}

func (w *Writer) appendTSV(row []string) {
	w.buf = w.buf[:0]
	for i, field := range row {
		if i > 0 {
			w.buf = append(w.buf, '\t')
		}
		for _, c := range []byte(field) {
			switch c {
			case '\\', '\t', '\n', '\r':
				w.buf = append(w.buf, '\\', shortEscape(c))
			default:
				w.buf = append(w.buf, c)
			}
		}
	}
	w.buf = append(w.buf, '\n')
}

func (w *Writer) appendLine(rec Record) {
	if !rec.Expires.IsZero() {
		w.Unended++
	}
	w.buf = AppendEscaped(w.buf[:0], rec.Key)
	if !w.KeysOnly {
		w.buf = append(w.buf, '\t')
		w.buf = AppendEscaped(w.buf, rec.Value)
	}
	w.buf = append(w.buf, '\n')
}

func (w *Writer) appendObject(rec Record) {
	marker := marker(!utf8.Valid(rec.Key), !utf8.Valid(rec.Value))
	w.buf = append(w.buf[:0], `{"key":`...)
	w.buf = appendJSONField(w.buf, rec.Key, marker, "key")
	if !w.KeysOnly {
		w.buf = append(w.buf, `,"value":`...)
		w.buf = appendJSONField(w.buf, rec.Value, marker, "value")
	}
	if marker != "" {
		w.buf = append(w.buf, `,"base64":"`+marker+`"`...)
	}
	if !rec.Expires.IsZero() {
		w.buf = append(w.buf, `,"`+expiresField+`":"`...)
		w.buf = append(appendExpiry(w.buf, rec.Expires), '"')
	}
	w.buf = append(w.buf, '}', '\n')
}

func appendJSONField(dst, p []byte, marker, name string) []byte {
	if marker == name || marker == "both" {
		dst = append(dst, '"')
		dst = base64.StdEncoding.AppendEncode(dst, p)
		return append(dst, '"')
	}
	return AppendJSON(dst, p)
}

// isText reports whether p can be written unchanged to a csv or tsv file. Most readers of csv do
// not keep every carriage return.
func (w *Writer) isText(p []byte) bool {
	if !utf8.Valid(p) {
		return false
	}
	for _, c := range string(p) {
		if unicode.IsControl(c) && c != '\t' && c != '\n' && (c != '\r' || w.f == CSV) {
			return false
		}
	}
	return true
}

// marker returns the content of the field base64.
func marker(key, value bool) string {
	switch {
	case key && value:
		return "both"
	case key:
		return "key"
	case value:
		return "value"
	}
	return ""
}

func encoded(p []byte, marker, name string) string {
	if marker == name || marker == "both" {
		return base64.StdEncoding.EncodeToString(p)
	}
	return string(p)
}
