// Package record defines the form of records, of the run lists of large values, and the checksums
// of both and of index pages. It encodes and decodes bytes that the caller passes. It knows no
// device and no store, and it keeps no state: all functions may be called from several goroutines.
//
// # Records
//
// A [Record] is one version of one key, in one slot of a slab. Its header has the [Number] of its
// transaction, the lengths of key and value, a kind and flags. A transaction of several records
// adds an ordinal and a count; a time to live adds an expiry. Key and value follow. If they do not
// fit a slot, the list of the runs of pages that hold them follows instead.
//
// # Checksums
//
// A record certifies itself. Its checksum ([Sum]) is the CRC-32C of body and header, combined with
// a tag of the place ([PlaceTag]): store, carve number of the slab, offset. So a recovery can tell
// a complete record from a torn one, from one of an earlier carving of its slab, and from a copy,
// and needs no other data for that. [PlaceSum] protects index pages and value blocks in the same
// way.
//
// # Reading
//
// [Record.Parse] checks every length and flag before it uses it. [Record.Sealed] compares the
// checksum. Most records are puts with key and value in the slot and no expiry: [Plain] parses and
// verifies these in one call. [Record.ReadLists] reads the run lists of a record; the length that
// the record states bounds the memory for that.
//
// # Rot
//
// A CRC is linear, so the checksum of a record with one wrong byte tells which byte it is:
// [Record.WrongByte]. Bytes that state a length must be tried one by one: [LengthBytes].
// [Record.CarveOf] recognizes a record of an earlier carving.
//
// Format: docs/format.md, "Record" and "Run list".
package record
