package kv

// A change of the index may not end, because the medium fails or the code panics. Then no goroutine
// may wait for it: no reader for a page or for the store-wide counter, and no writer. The store has
// failed. It shows the state before the change or the state after it. If a page is half changed or
// a transaction half shown, neither state exists, and reads fail too: DB.torn is set, and the
// counter stays odd, so that only reads that see an odd counter check DB.torn.

// change runs fn, which changes the index and the state that belongs to it. The caller holds the
// turn.
func (db *DB) change(fn func() error) (err error) {
	db.publish.Lock()
	defer db.publish.Unlock()
	defer func() {
		if r := recover(); r != nil || err != nil {
			err = db.unfinished(r, err)
		}
	}()
	return fn()
}

// changeBeside is change for a build beside the published tree. fn takes publish itself.
func (db *DB) changeBeside(fn func() error) (err error) {
	defer func() {
		if r := recover(); r != nil || err != nil {
			db.publish.Lock()
			defer db.publish.Unlock()
			err = db.unfinished(r, err)
		}
	}()
	return fn()
}

// unfinished cleans up after a change that panicked with r or returned err.
func (db *DB) unfinished(r any, err error) error {
	if db.ix.Private() {
		db.keys, db.beside.cut = db.beside.keys, nil
	}
	db.replacedRecords = db.replacedRecords[:0]
	db.hash.drop() // a bucket may be locked, and entries may not have followed
	db.leaveReaders()
	if r != nil {
		return db.interrupted(r)
	}
	return err
}

// leaveReaders lets readers continue, or fail, after a change that did not end.
func (db *DB) leaveReaders() {
	torn := db.showing.Load()&1 != 0
	if db.ix.HalfChanged() && !torn {
		torn = true
		db.showing.Add(1)
	}
	if torn {
		db.torn.Store(true)
	}
	db.ix.Abandon()
}

// interrupted fails the store because of r, the value of a panic. If the medium is not the cause,
// it panics with r again.
func (db *DB) interrupted(r any) (err error) {
	defer func() {
		if again := recover(); again != nil {
			_ = db.fail(errInterrupted)
			panic(again)
		}
	}()
	return db.fail(db.fault(r, "commit"))
}

// unreadable returns why reads fail, or nil; see torn.
func (db *DB) unreadable() error {
	if !db.torn.Load() {
		return nil
	}
	if f := db.failure.Load(); f != nil {
		return *f
	}
	return ErrFailed
}
