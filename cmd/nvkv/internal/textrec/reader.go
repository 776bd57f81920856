package textrec

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
)

// maxRecordBytes bounds one record of the input, so that a file without line ends gives an error
// before it exhausts memory. The largest value in base64 fits.
const maxRecordBytes = 1<<31 - 1

// Options select the fields of a record; see the package comment. The zero value reads the output
// of a Writer.
type Options struct {
	Key     string   // field that is the key
	Value   string   // field that is the value; needs Key
	Columns []string // names of the columns of a csv or tsv file that has no header row
}

// A Reader yields the records of one input in their order.
type Reader interface {
	// Next returns the next record, or io.EOF. Its slices belong to the reader and are valid until
	// the next call.
	Next() (Record, error)

	// Line returns the line, from 1, on which the last record of Next begins.
	Line() int
}

// A LineError describes a record of the input that cannot be used. Next may be called again and
// continues after it.
type LineError struct {
	Line int
	Err  error
	// Lines is the number of nonempty lines lost with the record, if they may have been records of
	// their own; else 0.
	Lines int
}

func (e *LineError) Error() string { return fmt.Sprintf("line %d: %v", e.Line, e.Err) }

// Records returns the number of records lost, including this one.
func (e *LineError) Records() int { return max(e.Lines, 1) }

// Unwrap returns the reason alone.
func (e *LineError) Unwrap() error { return e.Err }

// NewReader returns a reader of r. It reads ahead.
func NewReader(r io.Reader, f Format, o Options) (Reader, error) {
	if o.Value != "" && o.Key == "" {
		return nil, errors.New("a value field without a key field")
	}
	if len(o.Columns) > 0 && f != CSV && f != TSV {
		return nil, fmt.Errorf("column names with %v, which has no columns", f)
	}
	if o.Key != "" && f == Lines {
		return nil, errors.New("a key field with lines, which has no fields")
	}
	b := bufio.NewReaderSize(r, 1<<16)
	skipBOM(b)
	switch f {
	case CSV:
		return newRowReader(&csvRows{lines: lineReader{r: b}}, o)
	case TSV:
		return newRowReader(&tsvRows{lines: lineReader{r: b}}, o)
	case Lines:
		return &linesReader{lines: lineReader{r: b}}, nil
	}
	return &jsonReader{lines: lineReader{r: b}, o: o}, nil
}

func skipBOM(b *bufio.Reader) {
	bom := []byte("\xef\xbb\xbf")
	if p, _ := b.Peek(len(bom)); bytes.Equal(p, bom) {
		b.Discard(len(bom)) // cannot fail: the bytes are buffered
	}
}

// lineReader splits its input into lines and counts them.
type lineReader struct {
	r      *bufio.Reader
	buf    []byte // a line longer than r's buffer
	line   int    // number of the last line returned
	length int    // of that line, its end included
	max    int    // longest line; 0 is maxRecordBytes
}

// next returns the next nonempty line, without its end. It is valid until the next call.
func (l *lineReader) next() ([]byte, error) {
	for {
		p, err := l.one()
		if err != nil || len(p) > 0 {
			return p, err
		}
	}
}

func (l *lineReader) one() ([]byte, error) {
	p, err := l.raw()
	if err != nil {
		return nil, err
	}
	return trimEnd(p), nil
}

// trimEnd returns a line without its end.
func trimEnd(line []byte) []byte {
	return bytes.TrimSuffix(bytes.TrimSuffix(line, []byte("\n")), []byte("\r"))
}

// raw returns the next line with its end, which the last line may lack.
func (l *lineReader) raw() ([]byte, error) {
	p, err := l.r.ReadSlice('\n')
	if len(p) > 0 {
		l.line++
	}
	if err == bufio.ErrBufferFull {
		p, err = l.long(p)
	}
	if err == io.EOF && len(p) > 0 {
		err = nil
	}
	l.length = len(p)
	return p, err
}

// long reads the rest of a line whose first part filled r's buffer.
func (l *lineReader) long(first []byte) ([]byte, error) {
	limit := l.max
	if limit == 0 {
		limit = maxRecordBytes
	}
	l.buf = append(l.buf[:0], first...)
	for {
		p, err := l.r.ReadSlice('\n')
		if len(p) > limit-len(l.buf) {
			return nil, fmt.Errorf("line %d is longer than %d bytes", l.line, limit)
		}
		l.buf = append(l.buf, p...)
		if err != bufio.ErrBufferFull {
			return l.buf, err
		}
	}
}
