package textrec

import (
	"bytes"
	"errors"
	"io"
	"testing"
)

// FuzzReader reads arbitrary text in every format. Nothing may panic, every record error must name
// a line and let reading continue to the end, and the records read must survive being written and
// read again.
func FuzzReader(f *testing.F) {
	for _, text := range []string{
		"", "\n", "{\"key\":\"a\",\"value\":\"b\"}\n", `{"key":"\ud83d","value":1,"base64":"both"}`,
		"key,value,base64\na,b,\n\"x\ny\",\"\"\"\",key\n", "key\tvalue\na\\t\\x\tb\n", "a\tb\\x41\\\\\nc\n", "\xef\xbb\xbfkey,value\r\n1,2\r\n",
		"id,name\n1,\"unclosed\n2,b\n",
	} {
		for i := range allFormats {
			f.Add(text, byte(i), "")
			f.Add(text, byte(i), "id")
		}
	}
	f.Fuzz(func(t *testing.T, text string, format byte, key string) {
		fm := allFormats[int(format)%len(allFormats)]
		r, err := NewReader(bytes.NewReader([]byte(text)), fm, Options{Key: key})
		if err != nil {
			return
		}
		checkRoundTrip(t, fm, drain(t, r, text))
	})
}

func drain(t *testing.T, r Reader, text string) (pairs []pair) {
	t.Helper()
	for range len(text) + 2 { // a record takes at least a byte
		rec, err := r.Next()
		var bad *LineError
		switch {
		case err == nil:
			if r.Line() < 1 {
				t.Fatalf("record on line %d", r.Line())
			}
			pairs = append(pairs, pair{string(rec.Key), string(rec.Value)})
		case errors.As(err, &bad):
			if bad.Line < 1 {
				t.Fatalf("error on line %d: %v", bad.Line, err)
			}
		default:
			if err != io.EOF {
				t.Logf("ends with %v", err)
			}
			return pairs
		}
	}
	t.Fatal("the input does not end")
	return nil
}

func checkRoundTrip(t *testing.T, f Format, want []pair) {
	t.Helper()
	got, bad, err := readAll(t, writeAll(t, f, want), f, Options{})
	if err != nil || len(bad) > 0 || len(got) != len(want) {
		t.Fatalf("%v: %d of %d records came back: %v, %v", f, len(got), len(want), bad, err)
	}
	for i := range want {
		if got[i] != want[i] {
			t.Fatalf("%v: wrote %q, read %q", f, want[i], got[i])
		}
	}
}

// FuzzRoundTrip writes arbitrary bytes in every format and reads them back.
func FuzzRoundTrip(f *testing.F) {
	for _, k := range awkward {
		f.Add([]byte(k), []byte("v"))
		f.Add([]byte("k"), []byte(k))
	}
	f.Fuzz(func(t *testing.T, key, value []byte) {
		for _, fm := range allFormats {
			checkRoundTrip(t, fm, []pair{{string(key), string(value)}, {"next", "one"}})
		}
	})
}
