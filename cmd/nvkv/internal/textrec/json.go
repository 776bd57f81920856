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

func (r *jsonReader) Next() (Record, error) {
	line, err := r.lines.next()
	if err != nil {
		return Record{}, err
	}
	rec, err := r.record(line)
	if err != nil {
		return Record{}, &LineError{Line: r.lines.line, Err: err}
	}
	return rec, nil
}

func (r *jsonReader) record(line []byte) (rec Record, err error) {
	line = bytes.TrimSpace(line)
	if !utf8.Valid(line) {
		return rec, errors.New("not valid UTF-8")
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(line, &fields); err != nil {
		return rec, jsonError(err)
	}
	if fields == nil {
		return rec, errors.New("null is not an object")
	}
	if r.o.Key == "" {
		return plainObject(fields)
	}
	rec.Key, rec.Value, err = r.foreignObject(line, fields)
	return rec, err
}

// jsonError rewrites an error of package json for users who do not know Go types.
func jsonError(err error) error {
	var typ *json.UnmarshalTypeError
	if errors.As(err, &typ) {
		return fmt.Errorf("a JSON %s is not an object", typ.Value)
	}
	return fmt.Errorf("bad JSON: %w", err)
}

// plainObject reads an object that a Writer may have written.
func plainObject(fields map[string]json.RawMessage) (rec Record, err error) {
	for name := range fields {
		if name != "key" && name != "value" && name != "base64" && name != expiresField {
			return rec, fmt.Errorf("unknown field %q: records have key, value, base64 and %s; --key FIELD takes any object", name, expiresField)
		}
	}
	if rec.Key, err = keyBytes(fields, "key"); err != nil {
		return rec, err
	}
	if rec.Value, err = fieldBytes(fields, "value"); err != nil {
		return rec, err
	}
	marker, err := optionalBytes(fields, "base64")
	if err != nil {
		return rec, err
	}
	expires, err := optionalBytes(fields, expiresField)
	if err == nil && expires != nil {
		rec.Expires, err = parseExpiry(expires)
	}
	if err != nil {
		return rec, err
	}
	rec.Key, rec.Value, err = decodeMarked(rec.Key, rec.Value, string(marker))
	return rec, err
}

// optionalBytes is fieldBytes for an optional field. It returns nil if the field is absent.
func optionalBytes(fields map[string]json.RawMessage, name string) ([]byte, error) {
	if _, ok := fields[name]; !ok {
		return nil, nil
	}
	return fieldBytes(fields, name)
}

func (r *jsonReader) foreignObject(line []byte, fields map[string]json.RawMessage) (key, value []byte, err error) {
	if key, err = keyBytes(fields, r.o.Key); err != nil {
		return nil, nil, err
	}
	if r.o.Value == "" {
		return key, line, nil
	}
	value, err = fieldBytes(fields, r.o.Value)
	return key, value, err
}

// keyBytes is fieldBytes for the field that is the key.
func keyBytes(fields map[string]json.RawMessage, name string) ([]byte, error) {
	key, err := fieldBytes(fields, name)
	if err != nil {
		return nil, err
	}
	switch fields[name][0] {
	case '{':
		return nil, fmt.Errorf("field %q is an object: a key is a string, a number or a boolean", name)
	case '[':
		return nil, fmt.Errorf("field %q is an array: a key is a string, a number or a boolean", name)
	}
	return key, nil
}

// fieldBytes returns a string field's text, or the JSON text of any other field. null is an error,
// because it is neither a value nor text.
func fieldBytes(fields map[string]json.RawMessage, name string) ([]byte, error) {
	raw, ok := fields[name]
	if !ok {
		return nil, fmt.Errorf("no field %q", name)
	}
	switch raw[0] {
	case 'n':
		return nil, fmt.Errorf("field %q is null, which is no value: an empty one is \"\"", name)
	case '"':
		return stringBytes(raw, name)
	}
	return raw, nil
}

func stringBytes(raw json.RawMessage, name string) ([]byte, error) {
	var s string
	if err := json.Unmarshal(raw, &s); err != nil {
		return nil, fmt.Errorf("field %q: %w", name, err)
	}
	if strings.ContainsRune(s, utf8.RuneError) && hasLoneSurrogate(raw) {
		return nil, fmt.Errorf("field %q has half of a surrogate pair, which is no character", name)
	}
	return []byte(s), nil
}

// hasLoneSurrogate reports whether a JSON string has an escape \ud800 to \udfff that is not half of
// a pair. Package json would silently read it as U+FFFD, which is another text.
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

// decodeMarked decodes the base64 parts that the field base64 names.
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

// AppendJSON appends p, which is valid UTF-8, as a JSON string. It escapes characters that are not
// printable, so that the line is safe on a terminal.
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
