package textrec

import (
	"bytes"
	"fmt"
	"io"
)

// csvRows reads rows of csv by RFC 4180, with lines ended by LF or CRLF. It keeps every byte inside
// quotes, including line ends. Package encoding/csv would turn CRLF into LF there.
type csvRows struct {
	lines lineReader
	rest  []byte // rest of the current line, its end included
	start int    // line on which the row begins
	read  int    // bytes of the row
	taken int    // lines of the row that are not empty
	max   int    // longest row; 0 is maxRecordBytes

	text []byte // of the row's fields
	ends []int  // of each field in text
	row  []string
}

func (c *csvRows) line() int { return c.start }

func (c *csvRows) next() ([]string, error) {
	c.text, c.ends, c.read, c.taken = c.text[:0], c.ends[:0], 0, 0
	for c.read == 0 || len(trimEnd(c.rest)) == 0 {
		c.read = 0
		if err := c.more(); err != nil {
			return nil, err
		}
	}
	c.start = c.lines.line
	for {
		last, err := c.field()
		if err != nil {
			return nil, err
		}
		c.ends = append(c.ends, len(c.text))
		if last {
			return c.fields(), nil
		}
	}
}

// more reads the next line.
func (c *csvRows) more() (err error) {
	if c.rest, err = c.lines.raw(); err != nil {
		return err
	}
	limit := c.max
	if limit == 0 {
		limit = maxRecordBytes
	}
	if c.read += len(c.rest); c.read > limit {
		return fmt.Errorf("a row is longer than %d bytes: is a quote not closed?", limit)
	}
	if len(trimEnd(c.rest)) > 0 {
		c.taken++
	}
	return nil
}

// field reads a field and its end, and reports whether it is the last of the row.
func (c *csvRows) field() (last bool, err error) {
	if bytes.HasPrefix(c.rest, []byte{'"'}) {
		return c.quoted()
	}
	field, rest, more := bytes.Cut(c.rest, []byte{','})
	if !more {
		field = trimEnd(field)
	}
	if i := bytes.IndexByte(field, '"'); i >= 0 {
		return false, c.bad(i, "a quote inside a field that does not begin with one")
	}
	c.text = append(c.text, field...)
	c.rest = rest
	return !more, nil
}

// quoted reads a field that begins with a quote.
func (c *csvRows) quoted() (last bool, err error) {
	open, line := c.column(0), c.lines.line
	for c.rest = c.rest[1:]; ; {
		i := bytes.IndexByte(c.rest, '"')
		if i < 0 {
			c.text = append(c.text, c.rest...)
			if err := c.more(); err == io.EOF {
				return false, c.unclosed(line, open)
			} else if err != nil {
				return false, err
			}
			continue
		}
		c.text = append(c.text, c.rest[:i]...)
		switch behind := c.rest[i+1:]; {
		case bytes.HasPrefix(behind, []byte{'"'}):
			c.text = append(c.text, '"')
			c.rest = behind[1:]
		case bytes.HasPrefix(behind, []byte{','}):
			c.rest = behind[1:]
			return false, nil
		case len(trimEnd(behind)) == 0:
			return true, nil
		default:
			return false, c.bad(i, "a quote that neither ends the field nor is doubled")
		}
	}
}

// fields returns the current row.
func (c *csvRows) fields() []string {
	text, from := string(c.text), 0
	c.row = c.row[:0]
	for _, to := range c.ends {
		c.row = append(c.row, text[from:to])
		from = to
	}
	return c.row
}

// column returns the column, from 1, of byte i of the rest of the current line.
func (c *csvRows) column(i int) int { return c.lines.length - len(c.rest) + i + 1 }

// place names a column, and its line if that is not the row's first.
func (c *csvRows) place(line, column int) string {
	if line == c.start {
		return fmt.Sprintf("in column %d", column)
	}
	return fmt.Sprintf("on line %d, column %d", line, column)
}

func (c *csvRows) bad(i int, what string) error {
	return &LineError{Line: c.start, Err: fmt.Errorf("bad CSV %s: %s", c.place(c.lines.line, c.column(i)), what)}
}

// unclosed returns the error of a quote that is never closed.
func (c *csvRows) unclosed(line, column int) error {
	err := fmt.Errorf("bad CSV: the quote that opens %s is never closed", c.place(line, column))
	if last := c.lines.line; last != c.start {
		err = fmt.Errorf("%w, and takes lines %d to %d with it", err, c.start, last)
	}
	return &LineError{Line: c.start, Err: err, Lines: c.taken}
}
