package textrec

import (
	"bufio"
	"encoding/base64"
	"encoding/csv"
	"io"
	"unicode"
	"unicode/utf8"
)

// A Writer writes records in one format. The first error stays: later calls
// write nothing and return it.
type Writer struct {
	// KeysOnly leaves the values out. Set it before the first record.
	KeysOnly bool

	f       Format
	w       *bufio.Writer
	csv     *csv.Writer
	buf     []byte
	row     [3]string
	started bool
}

// NewWriter returns a writer to w. It buffers: call Flush at the end.
func NewWriter(w io.Writer, f Format) *Writer {
	b := bufio.NewWriterSize(w, 1<<16)
	return &Writer{f: f, w: b, csv: csv.NewWriter(b)}
}

// Write writes one record.
func (w *Writer) Write(key, value []byte) error {
	if w.KeysOnly {
		value = nil
	}
	if err := w.start(); err != nil {
		return err
	}
	switch w.f {
	case CSV:
		return w.csv.Write(w.fields(key, value))
	case TSV:
		w.appendTSV(w.fields(key, value))
	case Lines:
		w.appendLine(key, value)
	default:
		w.appendObject(key, value)
	}
	_, err := w.w.Write(w.buf)
	return err
}

// Flush writes out what is buffered; a file without records gets its header.
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
	header := w.columns("key", "value", "base64")
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

func (w *Writer) columns(key, value, marker string) []string {
	if w.KeysOnly {
		return append(w.row[:0], key, marker)
	}
	return append(w.row[:0], key, value, marker)
}

// fields returns the row of a record.
func (w *Writer) fields(key, value []byte) []string {
	marker := marker(!w.isText(key), !w.isText(value))
	return w.columns(encoded(key, marker, "key"), encoded(value, marker, "value"), marker)
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

func (w *Writer) appendLine(key, value []byte) {
	w.buf = AppendEscaped(w.buf[:0], key)
	if !w.KeysOnly {
		w.buf = append(w.buf, '\t')
		w.buf = AppendEscaped(w.buf, value)
	}
	w.buf = append(w.buf, '\n')
}

func (w *Writer) appendObject(key, value []byte) {
	marker := marker(!utf8.Valid(key), !utf8.Valid(value))
	w.buf = append(w.buf[:0], `{"key":`...)
	w.buf = appendJSONField(w.buf, key, marker, "key")
	if !w.KeysOnly {
		w.buf = append(w.buf, `,"value":`...)
		w.buf = appendJSONField(w.buf, value, marker, "value")
	}
	if marker != "" {
		w.buf = append(w.buf, `,"base64":"`+marker+`"`...)
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

// isText reports whether p can stand in a csv or tsv file as it is. Readers
// of csv, this package's among them, do not keep every carriage return.
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

// marker is the content of the field base64.
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
