// Package layout prints the contents of a medium, field by field, by the tables of docs/format.md.
// Only tests use it. The document itself decodes the bytes, so it cannot drift from the code that
// wrote them.
//
// A [Doc] holds the document's tables by heading. A [Dump] decodes the bytes of a store. It prints
// each structure that the caller names as one line per field,
//
//	offset: bytes  # field = value
//
// and remembers its bytes. [Dump.Unexplained] then reports the bytes of the store that no table
// describes.
package layout
