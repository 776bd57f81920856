package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"time"
	"unicode/utf16"
	"unicode/utf8"
)

// count formats n with separators: 34,924.
func count[T ~int | ~int64 | ~uint64](n T) string {
	s := strconv.FormatInt(int64(n), 10)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// plural formats a number of things: "1 record", "2,000 records".
func plural[T ~int | ~int64 | ~uint64](n T, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return count(n) + " " + thing + "s"
}

// size formats a number of bytes with three digits: 1.91 MB.
func size[T ~int | ~int64 | ~uint64](n T) string {
	v, units := float64(n), []string{"B", "kB", "MB", "GB", "TB", "PB"}
	for v >= 999.5 && len(units) > 1 {
		v, units = v/1000, units[1:]
	}
	if units[0] == "B" {
		return fmt.Sprintf("%d B", n)
	}
	return threeDigits(v) + " " + units[0]
}

// span formats a duration with three digits: 1.24 ms.
func span(d time.Duration) string {
	switch {
	case d < time.Microsecond:
		return fmt.Sprintf("%d ns", d.Nanoseconds())
	case d < time.Millisecond:
		return threeDigits(float64(d)/1e3) + " µs"
	case d < time.Second:
		return threeDigits(float64(d)/1e6) + " ms"
	}
	return threeDigits(d.Seconds()) + " s"
}

func threeDigits(v float64) string {
	switch {
	case v < 9.995:
		return strconv.FormatFloat(v, 'f', 2, 64)
	case v < 99.95:
		return strconv.FormatFloat(v, 'f', 1, 64)
	}
	return strconv.FormatFloat(v, 'f', 0, 64)
}

// writeJSON writes v as indented JSON. It escapes everything that is not printable, because package
// json leaves some characters that control terminals.
func writeJSON(w io.Writer, v any) error {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return err
	}
	_, err := w.Write(printableJSON(b.Bytes()))
	return err
}

// printableJSON escapes characters of a JSON text that are not printable. They occur only in
// strings.
func printableJSON(text []byte) []byte {
	var out []byte
	for _, c := range string(text) {
		switch {
		case c == '\n' || strconv.IsPrint(c):
			out = utf8.AppendRune(out, c)
		default:
			for _, u := range utf16.Encode([]rune{c}) {
				out = fmt.Appendf(out, `\u%04x`, u)
			}
		}
	}
	return out
}
