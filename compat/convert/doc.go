// Package convert copies a store of one engine into a new store of another, and verifies the copy.
//
// A conversion streams: it holds one batch of entries in memory, whatever the size of the store. It
// writes the new store beside the destination, in a directory named .nvkv-convert-*. Then it reads
// the new store back, compares it with the entries of the source (see [Digest]), and renames it
// into place. So the destination is either unchanged or complete. A crash leaves at most that
// directory.
//
// # Stores
//
// A store is named FORMAT:PATH (see [Parse]). [Formats] returns the formats of this package; a
// program may add its own.
//
//   - nvkv:PATH, a store file.
//   - pebble:PATH, a directory with the default comparer.
//   - bbolt:PATH/BUCKET, the keys of one bucket. A/B names bucket B in bucket A, and %2F is a slash
//     inside a name. If the destination file exists, the bucket is added to it. The bucket's
//     sequence number is not copied.
//   - bbolt:PATH, all buckets of a file.
//
// # Buckets as keys
//
// All buckets of a bbolt file together form one sequence of keys, in the order of the file. The key
// of an entry consists of the names of its buckets, each followed by the bytes 00 01, and then the
// entry's own key. A byte 00 inside a name or key is written 00 FF. The key k in bucket b in bucket
// a is a 00 01 b 00 01 k. bbolt has no empty keys, so the empty key in a bucket represents the
// bucket itself. It exists if the bucket is empty or has a sequence number. Its value is the
// sequence number, 8 bytes, most significant first, or empty if that is 0.
//
// The mapping is one to one and keeps the order. So a file can become a flat store and the same
// file again, and a bucket is a prefix to scan.
//
// # Expiries
//
// Expired entries are not copied. nvkv, and the text files that "nvkv convert" adds, keep when an
// entry expires. The other formats do not; Result.Unended counts the entries that then never
// expire.
//
// # Permissions
//
// A destination has the permissions of the store that it replaces, or else of the source. In a
// directory, each class of users that may read it may also enter it.
//
// # What a destination may refuse
//
// bbolt holds keys of 1 to 32,768 bytes. pebble has no empty key. A conversion with another key
// ends with an error that names the key. Options.EmptyKey replaces the empty key.
package convert
