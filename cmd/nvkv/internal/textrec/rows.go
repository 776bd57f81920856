package textrec

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"unicode/utf8"
)

// rows are the rows of a csv or tsv file. A row is valid until the next call.
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

func (r *rowReader) Next() (Record, error) {
	if r.cols == nil {
		if err := r.readHeader(); err != nil {
			return Record{}, err
		}
	}
	row, err := r.rows.next()
	if err != nil {
		return Record{}, err
	}
	rec, err := r.cols.record(row)
	if err != nil {
		return Record{}, &LineError{Line: r.rows.line(), Err: err}
	}
	return rec, nil
}

// readHeader reads the names of the columns. Without them no row has a meaning, so Next cannot
// continue after an error here.
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

// columns has the index of each part of a record in a row, or -1 if there is no such column.
type columns struct {
	names                       []string
	key, value, base64, expires int
}

func newColumns(names []string, o Options) (*columns, error) {
	c := &columns{names: slices.Clone(names), key: -1, value: -1, base64: -1, expires: -1}
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
		case expiresField:
			c.expires = i
		default:
			return fmt.Errorf("unknown column %q: records have key, value, base64 and %s; --key FIELD takes any row", n, expiresField)
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

// number formats a number of things: "1 field", "2 fields".
func number(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}

func (c *columns) record(row []string) (rec Record, err error) {
	if len(row) != len(c.names) {
		return rec, fmt.Errorf("%s under %s", number(len(row), "field"), number(len(c.names), "column"))
	}
	rec.Key = []byte(row[c.key])
	if c.value < 0 {
		rec.Value, err = c.object(row)
		return rec, err
	}
	rec.Value = []byte(row[c.value])
	if c.expires >= 0 && row[c.expires] != "" {
		if rec.Expires, err = parseExpiry([]byte(row[c.expires])); err != nil {
			return rec, err
		}
	}
	if c.base64 >= 0 {
		rec.Key, rec.Value, err = decodeMarked(rec.Key, rec.Value, row[c.base64])
	}
	return rec, err
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
			return nil, &LineError{Line: t.lines.line, Err: err}
		}
		t.row = append(t.row, string(t.buf))
	}
	return t.row, nil
}
