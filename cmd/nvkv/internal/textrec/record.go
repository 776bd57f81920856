package textrec

import (
	"fmt"
	"time"
)

// A Record is a key with its value and the time from which it is absent. The zero time means never.
type Record struct {
	Key, Value []byte
	Expires    time.Time
}

// expiresField is the name of the field and the column of Record.Expires.
const expiresField = "expires_at"

// expiryLayout is RFC 3339 with all nine digits of the nanoseconds.
const expiryLayout = "2006-01-02T15:04:05.000000000Z07:00"

// appendExpiry appends the expiry of a record, in UTC.
func appendExpiry(dst []byte, t time.Time) []byte { return t.UTC().AppendFormat(dst, expiryLayout) }

// parseExpiry parses the output of appendExpiry, and any other time in RFC 3339.
func parseExpiry(text []byte) (time.Time, error) {
	t, err := time.Parse(time.RFC3339Nano, string(text))
	if err != nil {
		return time.Time{}, fmt.Errorf("field %q is %q: want a moment such as %s", expiresField, clip(text), expiryLayout[:len(expiryLayout)-len("07:00")])
	}
	if t.IsZero() {
		t = t.Add(1) // the zero time would mean never
	}
	return t, nil
}

// clip truncates text that an error quotes.
func clip(text []byte) []byte { return text[:min(len(text), 64)] }
