package kv

// Space is how a store's room stands, in bytes. What neither counts lies in no file:
// it was given back.
type Space struct {
	Live int64 // slots, pages and runs that the index reaches
	Free int64 // what else the store takes of its device: it is used again, or given back before long
}

// Space returns how the store's room stood when the Tx began, in constant time. It
// counts what was committed before, and of what was freed since, what the last commit
// or checkpoint before the Tx knew. Zeros: a store that is being opened does not know
// it yet.
func (tx *Tx) Space() Space { return tx.space }

// spaceNow counts it. The caller holds the turn.
func (db *DB) spaceNow() Space {
	live := db.r.Live()
	return Space{Live: live, Free: max(0, db.r.Backed()-live)}
}

// noteSpace notes it for snapshots. The caller holds the turn.
func (db *DB) noteSpace() {
	db.publish.Lock()
	defer db.publish.Unlock()
	db.space = db.spaceNow()
}
