package textrec

import (
	"bytes"
	"fmt"
	"strconv"
	"unicode/utf8"
)

// linesReader reads the format lines.
type linesReader struct {
	lines      lineReader
	key, value []byte
}

func (r *linesReader) Line() int { return r.lines.line }

func (r *linesReader) Next() (Record, error) {
	line, err := r.lines.next()
	if err != nil {
		return Record{}, err
	}
	k, v, _ := bytes.Cut(line, []byte("\t"))
	if r.key, err = appendUnescaped(r.key[:0], k); err == nil {
		r.value, err = appendUnescaped(r.value[:0], v)
	}
	if err != nil {
		return Record{}, &LineError{Line: r.lines.line, Err: err}
	}
	return Record{Key: r.key, Value: r.value}, nil
}

// AppendEscaped appends p in the format lines: printable text unchanged, the rest escaped.
func AppendEscaped(dst, p []byte) []byte {
	for len(p) > 0 {
		c, n := utf8.DecodeRune(p)
		switch {
		case c == '\\' || c == '\t' || c == '\n' || c == '\r':
			dst = append(dst, '\\', shortEscape(byte(c)))
		case c == utf8.RuneError && n == 1, !strconv.IsPrint(c):
			dst = appendHexEscapes(dst, p[:n])
		default:
			dst = append(dst, p[:n]...)
		}
		p = p[n:]
	}
	return dst
}

func shortEscape(c byte) byte {
	switch c {
	case '\t':
		return 't'
	case '\n':
		return 'n'
	case '\r':
		return 'r'
	}
	return c
}

func appendHexEscapes(dst, p []byte) []byte {
	const digits = "0123456789abcdef"
	for _, c := range p {
		dst = append(dst, '\\', 'x', digits[c>>4], digits[c&15])
	}
	return dst
}

// appendUnescaped appends p with the escapes of lines and tsv decoded.
func appendUnescaped(dst, p []byte) ([]byte, error) {
	for {
		i := bytes.IndexByte(p, '\\')
		if i < 0 {
			return append(dst, p...), nil
		}
		dst = append(dst, p[:i]...)
		c, n, err := unescape(p[i:])
		if err != nil {
			return dst, err
		}
		dst = append(dst, c)
		p = p[i+n:]
	}
}

// unescape returns the byte of the escape at the start of p, and the escape's length.
func unescape(p []byte) (c byte, n int, err error) {
	if len(p) < 2 {
		return 0, 0, fmt.Errorf(`a lone \ at the end: write \\ for a backslash`)
	}
	switch p[1] {
	case '\\':
		return '\\', 2, nil
	case 't':
		return '\t', 2, nil
	case 'n':
		return '\n', 2, nil
	case 'r':
		return '\r', 2, nil
	case 'x':
		if len(p) >= 4 {
			if b, err := strconv.ParseUint(string(p[2:4]), 16, 8); err == nil {
				return byte(b), 4, nil
			}
		}
		return 0, 0, fmt.Errorf(`\x without two hexadecimal digits`)
	}
	r, _ := utf8.DecodeRune(p[1:])
	return 0, 0, fmt.Errorf(`unknown escape \ before %q: write \\ for a backslash`, r)
}
