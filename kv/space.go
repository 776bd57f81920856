package kv

// Space is the room of a store, in bytes. Bytes that it does not count are not in the file: they
// were given back.
type Space struct {
	Live int64 // slots, pages and runs that the index reaches
	Free int64 // other bytes that the store takes of its device: they will be reused or given back
}

// Space returns the room of the store when the Tx began, in constant time. It counts everything
// committed before, and the bytes freed up to the last commit or checkpoint before the Tx. It is
// zero while the store is being opened.
func (tx *Tx) Space() Space { return tx.space }

// spaceNow computes the room. The caller holds the turn.
func (db *DB) spaceNow() Space {
	live := db.r.Live()
	return Space{Live: live, Free: max(0, db.r.Backed()-live)}
}

// noteSpace stores the room for later snapshots. The caller holds the turn.
func (db *DB) noteSpace() {
	db.publish.Lock()
	defer db.publish.Unlock()
	db.space = db.spaceNow()
}
