// Package record is the form of what the store's log consists of: records, the run
// lists of large values, and the checksums of both and of index pages. It reads and
// writes bytes that it is given and knows neither device nor store.
//
// # Records
//
// A [Record] is one version of one key, in one slot of a slab. Its header has the
// [Number] of its transaction, the lengths of key and value, a kind and flags; a
// transaction of several records adds an ordinal and a count, a time to live adds an
// expiry. Key and value follow, or, where they are too long for a slot, the list of the
// runs that hold them.
//
// # Checksums
//
// A record certifies itself. The checksum ([Sum]) is the CRC-32C of the body and of the
// header, combined with the tag of the place ([PlaceTag]): store, carve number of the
// slab, offset. A recovery needs nothing else to tell a record that was written whole
// from a torn one, from one of an earlier carving of its slab, and from a copy.
// [PlaceSum] seals index pages and value blocks in the same way.
//
// # Reading
//
// [Record.Parse] believes no length and no flag; [Record.Sealed] compares the checksum.
// Most records are puts with key and value in the slot and no expiry: [Plain] parses and
// verifies these in one go. [Record.ReadLists] reads the run lists of a record, in memory
// bounded by the length that the record states.
//
// # Rot
//
// A CRC is linear, so a record with one wrong byte says which byte that is:
// [Record.WrongByte]. Bytes that state a length are tried instead: [LengthBytes].
// A record of an earlier carving gives itself away by [Record.CarveOf].
//
// Format: docs/format.md, "Record" and "Run list".
package record
