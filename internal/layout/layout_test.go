package layout

import (
	"strings"
	"testing"
)

const sample = `
# Sample

## Thing

| offset | bytes | type | field | meaning |
|---|---|---|---|---|
| 0 | 2 | u16 | count | |
| 2 | 2 | zero | - | |
| 4 | 4 | x32 | sum | of [0, 4) |

| at | what |
|---|---|
| 8 | not a structure |
`

func TestDump(t *testing.T) {
	doc, err := parse(sample)
	if err != nil {
		t.Fatal(err)
	}
	d := NewDump(t, doc, []byte{3, 1, 0, 0, 0xef, 0xbe, 0, 0, 'h', 'i'})
	v := d.Struct("Thing", 0)
	if v["count"] != 259 || v["sum"] != 0xbeef || len(v) != 2 {
		t.Errorf("values %v", v)
	}
	d.Bytes(8, 2, "tail")
	d.Unexplained()
	want := "000000: 0301              # count = 259\n000004: efbe0000          # sum = 0xbeef\n000008: 6869              # tail = \"hi\"\n"
	if at := difference(d.out.String(), want); at != "" {
		t.Error(at)
	}
}

func TestTablesThatCannotBe(t *testing.T) {
	row := "| 4 | 4 | x32 | sum | of [0, 4) |"
	for what, bad := range map[string]string{
		"a gap":                       "| 5 | 4 | x32 | sum | |",
		"a width that does not fit":   "| 4 | 4 | x64 | sum | |",
		"an offset that is no number": "| h | 4 | x32 | sum | |",
		"a field without bytes":       "| 4 | 0 | bytes | sum | |",
		"too few columns":             "| 4 | 4 |",
	} {
		if _, err := parse(strings.Replace(sample, row, bad, 1)); err == nil {
			t.Errorf("%s is accepted", what)
		}
	}
	if _, err := parse(sample + sample[strings.Index(sample, "| offset"):]); err == nil {
		t.Error("two tables below one heading are accepted")
	}
}
