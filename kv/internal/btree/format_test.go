package btree

import (
	"testing"

	"nvkv/internal/layout"
)

// TestPageFormat: the offsets and sizes in the document and in the code agree.
func TestPageFormat(t *testing.T) {
	doc := layout.Read(t, "../../../docs/format.md")
	for _, f := range []struct {
		table, field string
		off          int
	}{
		{"Index page", "checksum", PageSum}, {"Index page", "kind", pgKind}, {"Index page", "level", pgLevel},
		{"Index page", "count", pgCount}, {"Index page", "birth", pgBirth}, {"Index page", "heap top", pgHeapTop},
		{"Index page", "prefix bytes", pgPrefix}, {"Index page", "garbage", pgGarbage}, {"Index page", "self", pgSelf},
		{"Overflow page", "count", pgCount}, {"Overflow page", "next", ovNext}, {"Overflow page", "self", pgSelf},
		{"Value block", "checksum", ValsSum}, {"Value block", "birth", vbBirth},
	} {
		if got := doc.Off(t, f.table, f.field); got != f.off {
			t.Errorf("%s of %s: %d in the document, %d in the code", f.field, f.table, got, f.off)
		}
	}
	for table, size := range map[string]int{
		"Index page": pgHeader, "Head of a key": headBytes, "Slot of a key": slotWidth, "Long cell": longCell,
		"Child": childWidth, "Value block": vbHeader, "Record reference": vbEntry, "Overflow page": pgHeader,
	} {
		if got := doc.Size(t, table); got != size {
			t.Errorf("%s: %d bytes in the document, %d in the code", table, got, size)
		}
	}
}
