package textrec

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// jsonReader reads the format jsonl.
type jsonReader struct {
	lines lineReader
	o     Options
}

func (r *jsonReader) Line() int { return r.lines.line }

func (r *jsonReader) Next() (key, value []byte, err error) {
	line, err := r.lines.next()
	if err != nil {
		return nil, nil, err
	}
	key, value, err = r.record(line)
	if err != nil {
		return nil, nil, &LineError{r.lines.line, err}
	}
	return key, value, nil
}

func (r *jsonReader) record(line []byte) (key, value []byte, err error) {
	line = bytes.TrimSpace(line)
	if !utf8.Valid(line) {
		return nil, nil, errors.New("not valid UTF-8")
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(line, &fields); err != nil {
		return nil, nil, jsonError(err)
	}
	if fields == nil {
		return nil, nil, errors.New("null is not an object")
	}
	if r.o.Key == "" {
		return plainObject(fields)
	}
	return r.foreignObject(line, fields)
}

// jsonError puts package json's error into the words of a user, who knows
// nothing of Go types.
func jsonError(err error) error {
	var typ *json.UnmarshalTypeError
	if errors.As(err, &typ) {
		return fmt.Errorf("a JSON %s is not an object", typ.Value)
	}
	return fmt.Errorf("bad JSON: %w", err)
}

// plainObject reads an object that a Writer may have written.
func plainObject(fields map[string]json.RawMessage) (key, value []byte, err error) {
	for name := range fields {
		if name != "key" && name != "value" && name != "base64" {
			return nil, nil, fmt.Errorf("unknown field %q: records have key, value and base64; --key FIELD takes any object", name)
		}
	}
	var marker []byte
	if key, err = fieldBytes(fields, "key"); err != nil {
		return nil, nil, err
	}
	if value, err = fieldBytes(fields, "value"); err != nil {
		return nil, nil, err
	}
	if _, ok := fields["base64"]; ok {
		if marker, err = fieldBytes(fields, "base64"); err != nil {
			return nil, nil, err
		}
	}
	return decodeMarked(key, value, string(marker))
}

func (r *jsonReader) foreignObject(line []byte, fields map[string]json.RawMessage) (key, value []byte, err error) {
	if key, err = fieldBytes(fields, r.o.Key); err != nil {
		return nil, nil, err
	}
	if c := fields[r.o.Key][0]; c == '{' || c == '[' || c == 'n' {
		return nil, nil, fmt.Errorf("field %q is %s: a key is a string, a number or a boolean", r.o.Key, jsonKind(c))
	}
	if r.o.Value == "" {
		return key, line, nil
	}
	value, err = fieldBytes(fields, r.o.Value)
	return key, value, err
}

func jsonKind(c byte) string {
	switch c {
	case '{':
		return "an object"
	case '[':
		return "an array"
	}
	return "null"
}

// fieldBytes returns a string field's text, and the JSON text of any other.
func fieldBytes(fields map[string]json.RawMessage, name string) ([]byte, error) {
	raw, ok := fields[name]
	if !ok {
		return nil, fmt.Errorf("no field %q", name)
	}
	if raw[0] != '"' {
		return raw, nil
	}
	var s string
	if err := json.Unmarshal(raw, &s); err != nil {
		return nil, fmt.Errorf("field %q: %w", name, err)
	}
	if strings.ContainsRune(s, utf8.RuneError) && hasLoneSurrogate(raw) {
		return nil, fmt.Errorf("field %q has half of a surrogate pair, which is no character", name)
	}
	return []byte(s), nil
}

// hasLoneSurrogate reports an escape \ud800 to \udfff in a JSON string that is
// not half of a pair. Package json reads it as U+FFFD: silently another text.
func hasLoneSurrogate(raw []byte) bool {
	for i := 0; i < len(raw); i++ {
		if raw[i] != '\\' {
			continue
		}
		i++ // on the letter of the escape
		u, ok := hexEscape(raw[i-1:])
		if !ok || u < 0xd800 || u > 0xdfff {
			continue
		}
		low, ok := hexEscape(raw[min(i+5, len(raw)):])
		if u >= 0xdc00 || !ok || low < 0xdc00 || low > 0xdfff {
			return true
		}
		i += 6 // on the letter of the second escape
	}
	return false
}

// hexEscape returns the number of the \u and four hex digits at the start of p.
func hexEscape(p []byte) (u uint64, ok bool) {
	if len(p) < 6 || p[0] != '\\' || p[1] != 'u' {
		return 0, false
	}
	u, err := strconv.ParseUint(string(p[2:6]), 16, 16)
	return u, err == nil
}

// decodeMarked undoes what a Writer marked in the field base64.
func decodeMarked(key, value []byte, marker string) ([]byte, []byte, error) {
	switch marker {
	case "":
		return key, value, nil
	case "key", "value", "both":
	default:
		return nil, nil, fmt.Errorf(`field "base64" is %q: want "key", "value" or "both"`, marker)
	}
	var err error
	if marker != "value" {
		if key, err = decodeBase64("key", key); err != nil {
			return nil, nil, err
		}
	}
	if marker != "key" {
		value, err = decodeBase64("value", value)
	}
	return key, value, err
}

func decodeBase64(name string, p []byte) ([]byte, error) {
	out, err := base64.StdEncoding.AppendDecode(nil, p)
	if err != nil {
		return nil, fmt.Errorf("field %q: %w", name, err)
	}
	return out, nil
}

// AppendJSON appends p, which is valid UTF-8, as a JSON string. What is not
// printable is escaped, so that the line may be shown on a terminal.
func AppendJSON(dst, p []byte) []byte {
	dst = append(dst, '"')
	for len(p) > 0 {
		c, n := utf8.DecodeRune(p)
		switch {
		case c == '"' || c == '\\':
			dst = append(dst, '\\', byte(c))
		case c == '\t' || c == '\n' || c == '\r':
			dst = append(dst, '\\', shortEscape(byte(c)))
		case strconv.IsPrint(c):
			dst = append(dst, p[:n]...)
		case c < 0x10000:
			dst = fmt.Appendf(dst, `\u%04x`, c)
		default:
			c -= 0x10000
			dst = fmt.Appendf(dst, `\u%04x\u%04x`, 0xd800+c>>10, 0xdc00+c&0x3ff)
		}
		p = p[n:]
	}
	return append(dst, '"')
}
