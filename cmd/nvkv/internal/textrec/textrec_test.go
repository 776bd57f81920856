package textrec

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
)

var allFormats = []Format{JSONL, CSV, TSV, Lines}

// awkward are keys and values that some format must escape.
var awkward = []string{
	"", "a", "two words", "tab\there", "line\nend", "cr\rmiddle", "crlf\r\nend", "end\r", "\n", "\t", "\r\n",
	`back\slash`, `\x41`, `\`, `"quoted"`, `a,b`, ` leading`, `#comment`, `\.`, "{}", "null", "key", "both",
	"nul\x00", "\x1b[31mred", "del\x7f", "c1\u009b", "\xff\xfe", "half\xc3", "é", "日本語", "👩‍🚀", "\u202e", "\ufeff",
	"\ufffd", "\ufffe", "\U0010ffff", "=1+1", "'", "AAE=",
}

type pair struct{ key, value string }

func awkwardPairs() []pair {
	var out []pair
	for _, k := range awkward {
		for _, v := range awkward {
			out = append(out, pair{k, v})
		}
	}
	return out
}

func writeAll(t testing.TB, f Format, pairs []pair) []byte {
	t.Helper()
	var b bytes.Buffer
	w := NewWriter(&b, f)
	for _, p := range pairs {
		if err := w.Write(Record{Key: []byte(p.key), Value: []byte(p.value)}); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// readAll returns the good records and the errors of the others.
func readAll(t testing.TB, text []byte, f Format, o Options) (pairs []pair, bad []error, end error) {
	t.Helper()
	r, err := NewReader(bytes.NewReader(text), f, o)
	if err != nil {
		return nil, nil, err
	}
	for {
		rec, err := r.Next()
		var line *LineError
		switch {
		case errors.As(err, &line):
			bad = append(bad, err)
		case err == io.EOF:
			return pairs, bad, nil
		case err != nil:
			return pairs, bad, err
		default:
			pairs = append(pairs, pair{string(rec.Key), string(rec.Value)})
		}
	}
}

func TestRoundTrip(t *testing.T) {
	want := awkwardPairs()
	for _, f := range allFormats {
		t.Run(f.String(), func(t *testing.T) {
			text := writeAll(t, f, want)
			got, bad, err := readAll(t, text, f, Options{})
			if err != nil || len(bad) > 0 {
				t.Fatalf("reading back: %v, %v", err, bad)
			}
			if len(got) != len(want) {
				t.Fatalf("%d records came back of %d", len(got), len(want))
			}
			for i := range want {
				if got[i] != want[i] {
					t.Errorf("record %d: wrote %q, read %q", i, want[i], got[i])
				}
			}
		})
	}
}

func TestRoundTripRandomBytes(t *testing.T) {
	const seed = 7
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, seed))
	var want []pair
	for range 2000 {
		want = append(want, pair{randomBytes(rng), randomBytes(rng)})
	}
	for _, f := range allFormats {
		got, bad, err := readAll(t, writeAll(t, f, want), f, Options{})
		if err != nil || len(bad) > 0 || fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%v: random bytes do not come back: %v, %v", f, err, bad)
		}
	}
}

func randomBytes(rng *rand.Rand) string {
	p := make([]byte, rng.IntN(20))
	for i := range p {
		p[i] = byte(rng.Uint32())
		if rng.IntN(2) == 0 {
			p[i] = "\"\\\t\r\n,{}"[rng.IntN(8)]
		}
	}
	return string(p)
}

// TestSafeOnTerminal checks that the output of a writer cannot control a terminal.
func TestSafeOnTerminal(t *testing.T) {
	for _, f := range allFormats {
		for _, c := range writeAll(t, f, awkwardPairs()) {
			if c < 0x20 && c != '\n' && c != '\t' || c == 0x7f {
				t.Errorf("%v writes the control character %#x", f, c)
				break
			}
		}
	}
}

func TestWritten(t *testing.T) {
	pairs := []pair{{"a", "1"}, {"\xff", "x\ty"}, {"b", "\xfe"}, {"\xff\xff", "\xfd"}}
	want := map[Format]string{
		JSONL: `{"key":"a","value":"1"}
{"key":"/w==","value":"x\ty","base64":"key"}
{"key":"b","value":"/g==","base64":"value"}
{"key":"//8=","value":"/Q==","base64":"both"}
`,
		CSV: `key,value,base64
a,1,
/w==,x	y,key
b,/g==,value
//8=,/Q==,both
`,
		TSV: `key	value	base64
a	1	
/w==	x\ty	key
b	/g==	value
//8=	/Q==	both
`,
		Lines: `a	1
\xff	x\ty
b	\xfe
\xff\xff	\xfd
`,
	}
	for f, w := range want {
		if got := string(writeAll(t, f, pairs)); got != w {
			t.Errorf("%v: got\n%s\nwant\n%s", f, got, w)
		}
	}
}

func TestEmptyFile(t *testing.T) {
	for _, f := range allFormats {
		for _, text := range [][]byte{nil, []byte("\n\r\n"), writeAll(t, f, nil)} {
			if got, bad, err := readAll(t, text, f, Options{}); err != nil || len(got)+len(bad) > 0 {
				t.Errorf("%v: %q gives %v, %v, %v", f, text, got, bad, err)
			}
		}
	}
}

func TestKeysOnly(t *testing.T) {
	want := map[Format]string{
		JSONL: `{"key":"a"}` + "\n" + `{"key":"/w==","base64":"key"}` + "\n",
		CSV:   "key,base64\na,\n/w==,key\n",
		TSV:   "key\tbase64\na\t\n/w==\tkey\n",
		Lines: "a\n\\xff\n",
	}
	for f, w := range want {
		var b bytes.Buffer
		wr := NewWriter(&b, f)
		wr.KeysOnly = true
		wr.Write(Record{Key: []byte("a"), Value: []byte("\xff")})
		wr.Write(Record{Key: []byte("\xff"), Value: []byte("1")})
		if err := wr.Flush(); err != nil || b.String() != w {
			t.Errorf("%v: got %q, %v; want %q", f, b.String(), err, w)
		}
	}
}

func TestForeign(t *testing.T) {
	for _, c := range []struct {
		name string
		f    Format
		text string
		o    Options
		want []pair
	}{
		{"jsonl whole object", JSONL, ` {"id": 7, "x":[1, 2]} ` + "\n" + `{"id":"é"}`, Options{Key: "id"},
			[]pair{{"7", `{"id": 7, "x":[1, 2]}`}, {"é", `{"id":"é"}`}}},
		{"jsonl one field", JSONL, `{"id":true,"v":"a\nb"}` + "\n" + `{"id":1.50,"v":{"w":1}}`, Options{Key: "id", Value: "v"},
			[]pair{{"true", "a\nb"}, {"1.50", `{"w":1}`}}},
		{"jsonl value that is no string", JSONL, `{"key":"a","value":[1, 2]}`, Options{}, []pair{{"a", "[1, 2]"}}},
		{"jsonl surrogate pair", JSONL, `{"key":"\ud83d\ude00","value":"\\ud83d\ufffd"}`, Options{}, []pair{{"😀", `\ud83d` + "\ufffd"}}},
		{"jsonl names in another case", JSONL, `{"Key":"b","key":"a","value":""}`, Options{Key: "key", Value: "Key"}, []pair{{"a", "b"}}},
		{"csv whole row", CSV, "id,name,x\r\n1,\"a \"\"b\"\"\",\r\n", Options{Key: "id"}, []pair{{"1", `{"id":"1","name":"a \"b\"","x":""}`}}},
		{"csv one field", CSV, "id,name\n1,Latin\xe9\n", Options{Key: "id", Value: "name"}, []pair{{"1", "Latin\xe9"}}},
		{"csv no header", CSV, "1,a\n2,b", Options{Key: "id", Columns: []string{"id", "name"}},
			[]pair{{"1", `{"id":"1","name":"a"}`}, {"2", `{"id":"2","name":"b"}`}}},
		{"csv field over lines", CSV, "key,value\na,\"1\n\n2\"\nb,3\n", Options{}, []pair{{"a", "1\n\n2"}, {"b", "3"}}},
		{"csv line ends inside quotes", CSV, "key,value\r\na,\"1\r\n2\n3\r4\"\r\n\"b\r\n\",\"\r\n\"\r\n", Options{},
			[]pair{{"a", "1\r\n2\n3\r4"}, {"b\r\n", "\r\n"}}},
		{"csv carriage returns outside quotes", CSV, "key,value\na\r,b\rc\r\n", Options{}, []pair{{"a\r", "b\rc"}}},
		{"csv ends without a line end", CSV, "key,value\na,\"1\"\r", Options{}, []pair{{"a", "1"}}},
		{"csv ends with an empty field", CSV, "value,key\n1,", Options{}, []pair{{"", "1"}}},
		{"csv order of columns", CSV, "value,key\n1,a\n", Options{}, []pair{{"a", "1"}}},
		{"tsv", TSV, "a\tb\n1\tx\\\\y\\tz\r\n", Options{Key: "a", Value: "b"}, []pair{{"1", "x\\y\tz"}}},
		{"lines word list", Lines, "apple\r\n\npear\nkey\tvalue\twith tab", Options{},
			[]pair{{"apple", ""}, {"pear", ""}, {"key", "value\twith tab"}}},
		{"byte order mark", CSV, "\xef\xbb\xbfkey,value\na,1\n", Options{}, []pair{{"a", "1"}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, bad, err := readAll(t, []byte(c.text), c.f, c.o)
			if err != nil || len(bad) > 0 || fmt.Sprint(got) != fmt.Sprint(c.want) {
				t.Errorf("got %q, %v, %v; want %q", got, bad, err, c.want)
			}
		})
	}
}

// TestBadRecords reads inputs with one bad record each, on the given line, between or beside good
// ones. The good ones must be read.
func TestBadRecords(t *testing.T) {
	for _, c := range []struct {
		name string
		f    Format
		text string
		o    Options
		good int
		err  string
	}{
		{"not json", JSONL, "{\"key\":\"a\",\"value\":\"1\"}\n\nword\n{\"key\":\"b\",\"value\":\"2\"}\n", Options{}, 2, "line 3: bad JSON: invalid character 'w'"},
		{"array", JSONL, "[1]\n", Options{}, 0, "line 1: a JSON array is not an object"},
		{"null", JSONL, "null\n", Options{}, 0, "line 1: null is not an object"},
		{"cut off", JSONL, `{"key":"a","va`, Options{}, 0, "line 1: bad JSON: unexpected end"},
		{"two objects", JSONL, `{"key":"a","value":""}{}`, Options{}, 0, "line 1: bad JSON"},
		{"no value", JSONL, `{"key":"a"}`, Options{}, 0, `line 1: no field "value"`},
		{"unknown field", JSONL, `{"key":"a","value":"","ttl":1}`, Options{}, 0, `line 1: unknown field "ttl"`},
		{"bad marker", JSONL, `{"key":"a","value":"","base64":"v"}`, Options{}, 0, `line 1: field "base64" is "v"`},
		{"bad base64", JSONL, `{"key":"a","value":"?","base64":"value"}`, Options{}, 0, `line 1: field "value": illegal base64`},
		{"bad utf-8", JSONL, "{\"key\":\"\xff\",\"value\":\"\"}", Options{}, 0, "line 1: not valid UTF-8"},
		{"lone high surrogate", JSONL, `{"key":"\ud83d!","value":""}`, Options{}, 0, `line 1: field "key" has half`},
		{"lone low surrogate", JSONL, `{"key":"a","value":"\ude00\ud83d"}`, Options{}, 0, `line 1: field "value" has half`},
		{"surrogate after pair", JSONL, `{"key":"\ud83d\ude00\ude00","value":""}`, Options{}, 0, `has half`},
		{"null value", JSONL, `{"key":"a","value":"1"}` + "\n" + `{"key":"b","value":null}`, Options{}, 1, `line 2: field "value" is null`},
		{"null key of our own", JSONL, `{"key":null,"value":"1"}`, Options{}, 0, `line 1: field "key" is null`},
		{"object key of our own", JSONL, `{"key":{},"value":"1"}`, Options{}, 0, `line 1: field "key" is an object`},
		{"null marker", JSONL, `{"key":"a","value":"1","base64":null}`, Options{}, 0, `line 1: field "base64" is null`},
		{"null field as the value", JSONL, `{"id":1,"v":null}`, Options{Key: "id", Value: "v"}, 0, `line 1: field "v" is null`},
		{"unclosed quote", CSV, "key,value\na,1\nb,\"2\nc,3\n\nd,4\n", Options{}, 1, `line 3: bad CSV: the quote that opens in column 3 is never closed, and takes lines 3 to 6 with it`},
		{"unclosed quote at the end", CSV, "key,value\na,1\nb,\"2", Options{}, 1, `line 3: bad CSV: the quote that opens in column 3 is never closed`},
		{"unclosed quote in a later line", CSV, "key,value\n\"a\nb\",\"c\nd", Options{}, 0, `line 2: bad CSV: the quote that opens on line 3, column 4 is never closed, and takes lines 2 to 4 with it`},
		{"no such field", JSONL, `{"a":1}`, Options{Key: "id"}, 0, `line 1: no field "id"`},
		{"null key", JSONL, `{"id":null}`, Options{Key: "id"}, 0, `line 1: field "id" is null`},
		{"object key", JSONL, `{"id":{}}`, Options{Key: "id"}, 0, `line 1: field "id" is an object`},
		{"array key", JSONL, `{"id":[]}`, Options{Key: "id"}, 0, `line 1: field "id" is an array`},
		{"few fields", CSV, "key,value\na,1\nb\nc,3\n", Options{}, 2, "line 3: 1 field under 2 columns"},
		{"bare quote", CSV, "key,value\na,1\nb,x\"y\nc,3\n", Options{}, 2, `line 3: bad CSV in column 4`},
		{"bare quote in a later line", CSV, "key,value\na,1\nb,\"x\ny\"z\nc,3\n", Options{}, 2, `line 3: bad CSV on line 4, column 2`},
		{"csv not utf-8 as json", CSV, "id,x\n1,\xff\n2,b\n", Options{Key: "id"}, 1, `line 2: column "x" is not valid UTF-8`},
		{"csv bad marker", CSV, "key,value,base64\na,1,\nb,2,x\n", Options{}, 1, `line 3: field "base64" is "x"`},
		{"many fields", TSV, "key\tvalue\na\t1\nb\t2\t3\t4\nc\t3\n", Options{}, 2, "line 3: 4 fields under 2 columns"},
		{"tsv escape", TSV, "key\tvalue\na\tC:\\dir\n", Options{}, 0, `line 2: unknown escape \ before 'd'`},
		{"lines escape", Lines, "a\tb\nc\\\nd\te\n", Options{}, 2, `line 2: a lone \ at the end`},
		{"lines hex", Lines, `\xg1`, Options{}, 0, `line 1: \x without two`},
		{"lines short hex", Lines, `\x1`, Options{}, 0, `line 1: \x without two`},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, bad, err := readAll(t, []byte(c.text), c.f, c.o)
			if err != nil || len(bad) != 1 || len(got) != c.good {
				t.Fatalf("got %q, %v, %v; want %d records and 1 error", got, bad, err, c.good)
			}
			if !strings.Contains(bad[0].Error(), c.err) {
				t.Errorf("got error %q, want %q", bad[0], c.err)
			}
		})
	}
}

// TestBadInputs checks errors after which no record has a meaning.
func TestBadInputs(t *testing.T) {
	for _, c := range []struct {
		name string
		f    Format
		text string
		o    Options
		err  string
	}{
		{"other header", CSV, "id,name\n1,a\n", Options{}, `line 1: header: unknown column "id"`},
		{"no value column", TSV, "key\nx\n", Options{}, "line 1: header: want the columns key and value"},
		{"no key column", CSV, "\na,b\n", Options{Key: "c"}, `line 2: header: no column "c"`},
		{"no such value column", CSV, "a,b\n", Options{Key: "a", Value: "c"}, `no column "c"`},
		{"same name twice", CSV, "a,a\n", Options{Key: "a"}, `two columns named "a"`},
		{"header not csv", CSV, "a\"b\n", Options{}, "line 1: header: bad CSV"},
		{"columns given twice", CSV, "", Options{Key: "a", Columns: []string{"a", "a"}}, `two columns named "a"`},
		{"columns of jsonl", JSONL, "", Options{Columns: []string{"key"}}, "column names with jsonl"},
		{"value without key", CSV, "", Options{Value: "x"}, "value field without a key field"},
		{"key of lines", Lines, "", Options{Key: "x"}, "key field with lines"},
	} {
		if _, _, err := readAll(t, []byte(c.text), c.f, c.o); err == nil || !strings.Contains(err.Error(), c.err) {
			t.Errorf("%s: got %v, want %q", c.name, err, c.err)
		}
	}
}

func TestLineNumbers(t *testing.T) {
	r, err := NewReader(strings.NewReader("key,value\n\na,\"1\n2\"\nb,3\n"), CSV, Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []int{3, 5} {
		if _, err := r.Next(); err != nil || r.Line() != want {
			t.Errorf("line %d, %v; want %d", r.Line(), err, want)
		}
	}
}

// TestUnclosedQuoteCounts checks that lines lost to an unclosed quote are counted.
func TestUnclosedQuoteCounts(t *testing.T) {
	_, bad, err := readAll(t, []byte("key,value\na,1\nb,\"2\nc,3\n\nd,4\n"), CSV, Options{})
	var line *LineError
	if err != nil || len(bad) != 1 || !errors.As(bad[0], &line) || line.Records() != 3 {
		t.Errorf("got %v, %v; want one error that counts three records", bad, err)
	}
}

func TestLongLines(t *testing.T) {
	long := strings.Repeat("x", 200_000)
	got, bad, err := readAll(t, []byte("a\t"+long+"\nb\t1\n"), Lines, Options{})
	if err != nil || len(bad) > 0 || len(got) != 2 || got[0].value != long || got[1].value != "1" {
		t.Errorf("a line longer than the buffer is not read: %d records, %v, %v", len(got), bad, err)
	}
	r, _ := NewReader(strings.NewReader(long), Lines, Options{})
	r.(*linesReader).lines.max = 100_000
	if _, err := r.Next(); err == nil || !strings.Contains(err.Error(), "line 1 is longer than 100000 bytes") {
		t.Errorf("a line over the limit: %v", err)
	}
}

func TestUnclosedQuoteIsBounded(t *testing.T) {
	text := "key,value\na,\"" + strings.Repeat("x\n", 200_000)
	r, _ := NewReader(strings.NewReader(text), CSV, Options{})
	r.(*rowReader).rows.(*csvRows).max = 100_000
	if _, err := r.Next(); err == nil || !strings.Contains(err.Error(), "is a quote not closed?") {
		t.Errorf("got %v", err)
	}
}

type failing struct{ left int }

var errFailing = errors.New("disk full")

func (f *failing) Write(p []byte) (int, error) {
	if f.left -= len(p); f.left < 0 {
		return 0, errFailing
	}
	return len(p), nil
}

func TestWriterReportsErrors(t *testing.T) {
	for _, f := range allFormats {
		w := NewWriter(&failing{left: 1 << 16}, f)
		for range 100_000 {
			w.Write(Record{Key: []byte("key"), Value: []byte("value")})
		}
		if err := w.Flush(); !errors.Is(err, errFailing) {
			t.Errorf("%v: Flush returns %v", f, err)
		}
	}
}

func TestReaderReportsErrors(t *testing.T) {
	for _, f := range allFormats {
		r, err := NewReader(io.MultiReader(strings.NewReader(""), &broken{}), f, Options{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := r.Next(); !errors.Is(err, errFailing) {
			t.Errorf("%v: Next returns %v", f, err)
		}
	}
}

type broken struct{}

func (*broken) Read([]byte) (int, error) { return 0, errFailing }

func TestFormatNames(t *testing.T) {
	for _, f := range allFormats {
		var g Format
		if err := g.Set(f.String()); err != nil || g != f {
			t.Errorf("Set(%q) gives %v, %v", f.String(), g, err)
		}
		if g, ok := FormatOf("dir.csv/file." + map[Format]string{Lines: "TXT"}[f] + strings.TrimPrefix(f.String(), "lines")); !ok || g != f {
			t.Errorf("FormatOf a %v file gives %v, %v", f, g, ok)
		}
	}
	var f Format
	if err := f.Set("xml"); err == nil {
		t.Error("Set takes xml")
	}
	if _, ok := FormatOf("csv"); ok {
		t.Error("FormatOf sees a format in a name without an end")
	}
}
