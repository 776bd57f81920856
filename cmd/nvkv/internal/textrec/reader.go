package textrec

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
)

// maxRecordBytes bounds one record of the input, so that a file without line
// ends is an error before it is all of the memory. The largest value in base64
// fits.
const maxRecordBytes = 1<<31 - 1

// Options say how the fields of an input become a record; see the package
// comment. The zero value reads what a Writer wrote.
type Options struct {
	Key     string   // field that is the key
	Value   string   // field that is the value; needs Key
	Columns []string // names of the columns of a csv or tsv file that has no header row
}

// A Reader yields the records of one input in their order.
type Reader interface {
	// Next returns the next record, or io.EOF. Both slices are the reader's and
	// hold until the call after.
	Next() (key, value []byte, err error)

	// Line returns the line, from 1, on which the record begins that Next
	// returned last.
	Line() int
}

// A LineError is a record of the input that cannot be used. Next may be
// called again and goes on behind it.
type LineError struct {
	Line int
	Err  error
}

func (e *LineError) Error() string { return fmt.Sprintf("line %d: %v", e.Line, e.Err) }

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
		return newRowReader(newCSVRows(b), o)
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

// lineReader cuts its input into lines and counts them.
type lineReader struct {
	r    *bufio.Reader
	buf  []byte // a line longer than r's buffer
	line int    // number of the line that next returned last
	max  int    // longest line; 0 is maxRecordBytes
}

// next returns the next line that is not empty, without its end. It holds
// until the call after.
func (l *lineReader) next() ([]byte, error) {
	for {
		p, err := l.one()
		if err != nil || len(p) > 0 {
			return p, err
		}
	}
}

func (l *lineReader) one() ([]byte, error) {
	p, err := l.r.ReadSlice('\n')
	l.line++
	if err == bufio.ErrBufferFull {
		p, err = l.long(p)
	}
	if err == io.EOF && len(p) > 0 {
		err = nil
	}
	if err != nil {
		return nil, err
	}
	p = bytes.TrimSuffix(p, []byte("\n"))
	return bytes.TrimSuffix(p, []byte("\r")), nil
}

// long gathers a line of which first is what filled r's buffer.
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
