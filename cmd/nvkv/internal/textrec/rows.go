package textrec

import (
	"bufio"
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"slices"
	"unicode/utf8"
)

// rows are the rows of a csv or tsv file. A row holds until the next.
type rows interface {
	next() ([]string, error)
	line() int // of the start of the row returned last
}

// rowReader turns rows under a header into records.
type rowReader struct {
	rows rows
	cols *columns
	o    Options
}

func newRowReader(rows rows, o Options) (*rowReader, error) {
	r := &rowReader{rows: rows, o: o}
	if len(o.Columns) == 0 {
		return r, nil // the first row names them
	}
	var err error
	r.cols, err = newColumns(o.Columns, o)
	return r, err
}

func (r *rowReader) Line() int { return r.rows.line() }

func (r *rowReader) Next() (key, value []byte, err error) {
	if r.cols == nil {
		if err := r.readHeader(); err != nil {
			return nil, nil, err
		}
	}
	row, err := r.rows.next()
	if err != nil {
		return nil, nil, err
	}
	key, value, err = r.cols.record(row)
	if err != nil {
		return nil, nil, &LineError{r.rows.line(), err}
	}
	return key, value, nil
}

// readHeader reads the names of the columns. Without them no row means
// anything, so an error here is not one that Next could go on behind.
func (r *rowReader) readHeader() error {
	names, err := r.rows.next()
	var bad *LineError
	if errors.As(err, &bad) {
		return fmt.Errorf("line %d: header: %w", bad.Line, bad.Err)
	}
	if err != nil {
		return err
	}
	if r.cols, err = newColumns(names, r.o); err != nil {
		return fmt.Errorf("line %d: header: %w", r.rows.line(), err)
	}
	return nil
}

// columns says where in a row the parts of a record are. An index is -1 where
// there is no such column.
type columns struct {
	names              []string
	key, value, base64 int
}

func newColumns(names []string, o Options) (*columns, error) {
	c := &columns{names: slices.Clone(names), key: -1, value: -1, base64: -1}
	seen := map[string]bool{}
	for _, n := range names {
		if seen[n] {
			return nil, fmt.Errorf("two columns named %q", n)
		}
		seen[n] = true
	}
	if o.Key == "" {
		return c, c.findPlain()
	}
	return c, c.findForeign(o)
}

func (c *columns) findPlain() error {
	for i, n := range c.names {
		switch n {
		case "key":
			c.key = i
		case "value":
			c.value = i
		case "base64":
			c.base64 = i
		default:
			return fmt.Errorf("unknown column %q: records have key, value and base64; --key FIELD takes any row", n)
		}
	}
	if c.key < 0 || c.value < 0 {
		return errors.New("want the columns key and value; --key FIELD takes any row")
	}
	return nil
}

func (c *columns) findForeign(o Options) error {
	if c.key = slices.Index(c.names, o.Key); c.key < 0 {
		return fmt.Errorf("no column %q", o.Key)
	}
	if o.Value == "" {
		return nil
	}
	if c.value = slices.Index(c.names, o.Value); c.value < 0 {
		return fmt.Errorf("no column %q", o.Value)
	}
	return nil
}

func (c *columns) record(row []string) (key, value []byte, err error) {
	if len(row) != len(c.names) {
		return nil, nil, fmt.Errorf("%d fields under %d columns", len(row), len(c.names))
	}
	key = []byte(row[c.key])
	if c.value < 0 {
		value, err = c.object(row)
		return key, value, err
	}
	value = []byte(row[c.value])
	if c.base64 < 0 {
		return key, value, nil
	}
	return decodeMarked(key, value, row[c.base64])
}

// object returns row as a JSON object, fields in the order of the columns.
func (c *columns) object(row []string) ([]byte, error) {
	out := []byte{'{'}
	for i, field := range row {
		if !utf8.ValidString(field) || !utf8.ValidString(c.names[i]) {
			return nil, fmt.Errorf("column %q is not valid UTF-8 and cannot become JSON", c.names[i])
		}
		if i > 0 {
			out = append(out, ',')
		}
		out = AppendJSON(out, []byte(c.names[i]))
		out = append(out, ':')
		out = AppendJSON(out, []byte(field))
	}
	return append(out, '}'), nil
}

// csvRows reads rows of csv.
type csvRows struct {
	r     *csv.Reader
	guard *guardReader
	start int
}

func newCSVRows(b *bufio.Reader) *csvRows {
	guard := &guardReader{r: b, max: maxRecordBytes}
	r := csv.NewReader(guard)
	r.FieldsPerRecord = -1 // columns.record says it better
	r.ReuseRecord = true
	return &csvRows{r: r, guard: guard}
}

func (c *csvRows) line() int { return c.start }

func (c *csvRows) next() ([]string, error) {
	c.guard.n = 0
	row, err := c.r.Read()
	var bad *csv.ParseError
	if errors.As(err, &bad) {
		c.start = bad.StartLine
		return nil, &LineError{bad.StartLine, csvError(bad)}
	}
	if err != nil {
		return nil, err
	}
	c.start, _ = c.r.FieldPos(0)
	return row, nil
}

// csvError says what is wrong with a row and, where that is not the line on
// which the row starts, on which line.
func csvError(e *csv.ParseError) error {
	if e.Line != e.StartLine {
		return fmt.Errorf("bad CSV on line %d, column %d: %w", e.Line, e.Column, e.Err)
	}
	return fmt.Errorf("bad CSV in column %d: %w", e.Column, e.Err)
}

// guardReader fails once more than max bytes were read since n was set to 0:
// a quote that is never closed would otherwise take the whole file as a field.
type guardReader struct {
	r      io.Reader
	n, max int
}

func (g *guardReader) Read(p []byte) (int, error) {
	n, err := g.r.Read(p)
	if g.n += n; g.n > g.max || g.n < 0 {
		return 0, fmt.Errorf("a row is longer than %d bytes: is a quote not closed?", g.max)
	}
	return n, err
}

// tsvRows reads rows of tsv.
type tsvRows struct {
	lines lineReader
	row   []string
	buf   []byte
}

func (t *tsvRows) line() int { return t.lines.line }

func (t *tsvRows) next() ([]string, error) {
	line, err := t.lines.next()
	if err != nil {
		return nil, err
	}
	t.row = t.row[:0]
	for field := range bytes.SplitSeq(line, []byte("\t")) {
		if t.buf, err = appendUnescaped(t.buf[:0], field); err != nil {
			return nil, &LineError{t.lines.line, err}
		}
		t.row = append(t.row, string(t.buf))
	}
	return t.row, nil
}
