package textrec

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"time"
)

// TestExpiryRoundTrip checks that expiries are preserved to the nanosecond in every format that
// keeps them.
func TestExpiryRoundTrip(t *testing.T) {
	moments := []time.Time{{}, time.Unix(0, 1), time.Unix(1<<33, 123_456_789), time.Date(2262, 4, 11, 23, 47, 16, 854775807, time.UTC),
		time.Date(1, 1, 1, 0, 0, 0, 1, time.UTC), time.Date(2030, 1, 2, 3, 4, 5, 0, time.FixedZone("", 3600))}
	for _, f := range []Format{JSONL, CSV, TSV} {
		var b bytes.Buffer
		w := NewWriter(&b, f)
		w.Expiring = true
		for _, at := range moments {
			if err := w.Write(Record{Key: []byte("k\xff"), Value: []byte("v"), Expires: at}); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Flush(); err != nil {
			t.Fatal(err)
		}
		r, err := NewReader(&b, f, Options{})
		if err != nil {
			t.Fatal(err)
		}
		for _, at := range moments {
			if rec, err := r.Next(); err != nil || !rec.Expires.Equal(at) || string(rec.Key) != "k\xff" {
				t.Errorf("%v: wrote %v, read %v, %v", f, at, rec, err)
			}
		}
		if _, err := r.Next(); err != io.EOF {
			t.Errorf("%v: %v behind the last", f, err)
		}
	}
}

func TestExpiryWritten(t *testing.T) {
	at := time.Date(2030, 1, 2, 4, 4, 5, 0, time.FixedZone("", 3600))
	for f, want := range map[Format]string{
		JSONL: `{"key":"a","value":"1","expires_at":"2030-01-02T03:04:05.000000000Z"}` + "\n" + `{"key":"b","value":"2"}` + "\n",
		CSV:   "key,value,base64,expires_at\na,1,,2030-01-02T03:04:05.000000000Z\nb,2,,\n",
		TSV:   "key\tvalue\tbase64\texpires_at\na\t1\t\t2030-01-02T03:04:05.000000000Z\nb\t2\t\t\n",
		Lines: "a\t1\nb\t2\n",
	} {
		var b bytes.Buffer
		w := NewWriter(&b, f)
		w.Expiring = true
		w.Write(Record{Key: []byte("a"), Value: []byte("1"), Expires: at})
		w.Write(Record{Key: []byte("b"), Value: []byte("2")})
		if err := w.Flush(); err != nil || b.String() != want {
			t.Errorf("%v: got %q, %v; want %q", f, b.String(), err, want)
		}
		if (w.Unended == 1) != (f == Lines) {
			t.Errorf("%v: %d records without their end", f, w.Unended)
		}
	}
}

// TestExpiryWithoutColumn checks that a missing column gives an error and not a lost expiry.
func TestExpiryWithoutColumn(t *testing.T) {
	for _, f := range []Format{CSV, TSV} {
		w := NewWriter(io.Discard, f)
		if err := w.Write(Record{Expires: time.Unix(1, 0)}); !errors.Is(err, ErrNoColumn) {
			t.Errorf("%v: %v, want ErrNoColumn", f, err)
		}
	}
}

func TestBadExpiry(t *testing.T) {
	for _, c := range []struct {
		f    Format
		text string
	}{
		{JSONL, `{"key":"a","value":"","expires_at":"tomorrow"}`}, {JSONL, `{"key":"a","value":"","expires_at":17}`},
		{JSONL, `{"key":"a","value":"","expires_at":null}`}, {JSONL, `{"key":"a","value":"","expires_at":"2030-01-02 03:04:05"}`},
		{CSV, "key,value,expires_at\na,1,x\n"}, {TSV, "key\tvalue\texpires_at\na\t1\t2030-13-01T00:00:00Z\n"},
	} {
		_, bad, err := readAll(t, []byte(c.text), c.f, Options{})
		if err != nil || len(bad) != 1 || !strings.Contains(bad[0].Error(), `field "expires_at" is`) {
			t.Errorf("%v: %q gives %v, %v", c.f, c.text, bad, err)
		}
	}
}
