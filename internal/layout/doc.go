// Package layout prints what a medium holds, field by field, by the tables of
// docs/format.md. Only tests use it: the document itself decodes the bytes, so
// that it cannot drift from the code that wrote them.
//
// A [Doc] is the document's tables by heading. A [Dump] walks over the bytes of
// a store at the caller's direction: each structure that the caller names is
// printed as a line per field,
//
//	offset: bytes  # field = value
//
// and remembered, so that [Dump.Unexplained] can tell which bytes of the store
// no table speaks of.
package layout
