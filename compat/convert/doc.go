// Package convert copies a store of one engine into a new store of another,
// and proves that it did.
//
// A conversion streams: it holds one batch of entries in memory, whatever the
// size of the store. It writes beside the destination, in a directory named
// .nvkv-convert-*, reads the result back, compares it with what the source
// gave (see [Digest]), and only then renames it into place. So the destination
// is either as it was or whole, also after a crash, which leaves no more than
// that directory.
//
// # Stores
//
// A store is named FORMAT:PATH (see [Parse]). [Formats] has those of this
// package; a program may add its own.
//
//   - nvkv:PATH, a store file.
//   - pebble:PATH, a directory with the default comparer.
//   - bbolt:PATH/BUCKET, the keys of one bucket; A/B names bucket B in bucket
//     A, and %2F is a slash inside a name. As a destination the bucket is added
//     to the file if that is there. The bucket's sequence number is left out.
//   - bbolt:PATH, all buckets of a file.
//
// # Buckets as keys
//
// All buckets of a bbolt file together are one sequence of keys, in the order
// of the file: an entry's key is the names of its buckets, each followed by
// the bytes 00 01, and then the entry's own key. A byte 00 inside a name or
// key is written 00 FF. The key k in bucket b in bucket a is a 00 01 b 00 01 k.
// The empty key in a bucket, which bbolt does not have, stands for the bucket:
// it is there when the bucket is empty or has a sequence number, which is the
// value, 8 bytes, most significant first; a sequence of 0 is an empty value.
//
// The mapping is one to one and keeps the order, so that a file becomes a flat
// store and the same file again, and a bucket is a prefix to scan.
//
// # What a destination may refuse
//
// bbolt holds keys of 1 to 32,768 bytes, pebble no empty key. A conversion
// that meets another ends with an error that names it; Options.EmptyKey gives
// the empty key another name.
package convert
