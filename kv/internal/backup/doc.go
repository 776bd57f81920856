// Package backup reads and writes the stream of a backup. It knows no store: package kv puts
// records in and takes them out. A Reader or a Writer is for one goroutine at a time.
//
// # Form
//
// A stream is a header, chunks and a trailer. The payloads of the chunks, put together, are the
// records, in ascending order of their keys. A record may continue in the next chunk. All integers
// are little-endian. Format: docs/backup.md.
//
//	header   magic 8 | version 4 | zero 4 | store id 16 | time 8 | keys 8 | zero 12 | checksum 4
//	chunk    payload bytes 4 | checksum 4 | payload
//	trailer  zero 4 | checksum 4 | records 8 | payload bytes 8
//	record   flags 1 | key length 2 | value length 4 | expiry 8 if flagged | key | value
//
// # Checksums
//
// Every checksum is the CRC-32C of the whole stream before it, without the other checksums. So a
// chunk that is missing, repeated or from another backup does not pass. [Reader] returns no record
// of a chunk that it has not verified.
//
// # Memory
//
// [Writer] holds one chunk. [Reader] holds one chunk and one record. It grows the memory of a
// record as the bytes arrive, so an impossible length costs nothing.
package backup
