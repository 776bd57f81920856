// Package backup is the stream that a backup is. It knows no store: what puts records in
// and takes them out is package kv.
//
// # Form
//
// A stream is a header, chunks, a trailer. The payloads of the chunks, put together, are
// the records, in ascending order of their keys; a record may go on in the next chunk. All
// integers are little-endian. Format: docs/backup.md.
//
//	header   magic 8 | version 4 | zero 4 | store id 16 | time 8 | keys 8 | zero 12 | checksum 4
//	chunk    payload bytes 4 | checksum 4 | payload
//	trailer  zero 4 | checksum 4 | records 8 | payload bytes 8
//	record   flags 1 | key length 2 | value length 4 | expiry 8 if flagged | key | value
//
// # Checksums
//
// Every checksum is the CRC-32C of the whole stream before it, other checksums apart. So a
// chunk that is missing, repeated or from another backup does not pass, and [Reader]
// gives out no record of a chunk that it has not verified.
//
// # Memory
//
// [Writer] holds a chunk. [Reader] holds a chunk and a record, and grows a record's memory
// as its bytes arrive: a length that cannot be true costs nothing.
package backup
