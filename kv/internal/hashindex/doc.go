// Package hashindex holds a bounded hash table in DRAM beside an index: it maps the hash of a key to
// the reference that the index has for the key. The table is a cache. It knows neither keys nor
// records: a reader verifies the key by reading the record that an entry names, and the table tells
// the reader whether the entry was true meanwhile.
//
// # Buckets
//
// A bucket is a cache line of eight words. The first is its state, each of the others an entry or
// 0. An entry has 16 bits of the key's hash, the print, above 48 bits of the reference.
//
//	bit 0        locked
//	bit 1        lost: an entry did not fit, so a key that is not in the bucket may exist
//	bits 2-17    tag: a bucket whose tag is not the table's is empty and has lost entries
//	bits 18-63   version, changed by each unlocking
//
// # Who changes a bucket
//
// A goroutine that changes the index for a key locks the key's bucket first, changes the index,
// lets the entry follow and unlocks (Lock, Set, Unlock). So goroutines that change different keys
// work side by side, and those that change one key follow each other as their changes of the index
// do. A change of many keys is shown in one of two ways: while readers wait for it, each bucket
// follows after the index; or the table is shut (Shut), and readers use the index meanwhile.
//
// A goroutine that has found a key in the index may add it (TryLock, Add, Unlock). It must check,
// while the bucket is locked, that what it found is still true. It never waits.
//
// # Readers
//
// A reader takes no lock and waits for nothing. Look notes the states of table and bucket. The
// reader then reads the records of the entries that have the print of its key, copies what it needs,
// and asks whether the states still stand (Stands). If they do, all entries were true in between.
//
// # Absence
//
// A bucket is complete if it has lost nothing and a walk over the whole index has covered the table
// (Covered) since it was last cleared. In a complete bucket a key without an entry is absent.
package hashindex
