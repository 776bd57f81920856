package bbolt

import (
	"bytes"

	"nvkv/kv"
)

// A bucket that is deleted leaves a record that names it, in the transaction that
// deletes its entry. Its items are deleted after that one's commit, as one range, and
// the record after them; what a crash leaves of that is done by the next Open. Nobody
// can see those items any more: the number of the bucket is not used again.
//
// Buckets inside it are found by looking through it, if there are any. A transaction
// takes some of their entries out and leaves such a record for each, so that none is
// counted twice.

// garbageKey is the key of the record of a deleted bucket.
func garbageKey(bucket uint64) []byte {
	p := prefixOf(spaceGarbage, bucket)
	return p[:]
}

// The value of such a record.
const (
	holdsItems   = 0x00
	holdsBuckets = 0x01
)

// bury leaves the record of a bucket that is deleted, and takes what it holds out of
// the database's books.
func (tx *Tx) bury(bucket uint64, use *usage) error {
	kind := []byte{holdsItems}
	if use.buckets > 0 {
		kind[0] = holdsBuckets
	}
	if err := tx.inner.Put(garbageKey(bucket), kind); err != nil {
		return tx.db.translate(err)
	}
	tx.meta.all.add(use, goes)
	if use.apart(tx.layout()) {
		tx.meta.apart--
	}
	tx.deleted = true
	tx.gone.bucket(bucket, use.buckets > 0)
	return nil
}

// collect frees what deleted buckets held. The caller holds the writer's lock, and
// has no writable kv.Tx open.
func (db *DB) collect(noSync bool) error {
	for {
		bucket, kind, err := db.garbage()
		if err != nil || kind == nil {
			return err
		}
		if kind[0] == holdsBuckets {
			if err := db.buryNested(bucket); err != nil {
				return err
			}
		}
		p := prefixOf(spaceEntry, bucket)
		end := p.end()
		if err := db.store.DeleteRange(p[:], end[:]); err != nil {
			return err
		}
		if err := db.store.Delete(garbageKey(bucket)); err != nil {
			return err
		}
		if !noSync {
			if err := db.store.Sync(); err != nil {
				return err
			}
		}
	}
}

// garbage returns a deleted bucket whose items may be there; a nil kind: there is none.
func (db *DB) garbage() (bucket uint64, kind []byte, err error) {
	err = db.store.View(func(tx *kv.Tx) error {
		for k, v := range tx.Prefix([]byte{spaceGarbage}) {
			if len(k) != prefixBytes || len(v) != 1 {
				return errDamaged("the record of a deleted bucket")
			}
			bucket, kind = bucketOf(k), bytes.Clone(v)
			break
		}
		return tx.Err()
	})
	return bucket, kind, err
}

// nestedAtOnce is how many buckets inside a deleted one are taken out at a time.
const nestedAtOnce = 1000

// buryNested deletes the buckets inside a deleted one.
func (db *DB) buryNested(bucket uint64) error {
	for {
		inner, err := db.store.Begin(true)
		if err != nil {
			return err
		}
		n, err := db.buryMore(inner, bucket)
		if err != nil {
			return joinErrors(err, inner.Rollback())
		}
		if n < nestedAtOnce {
			return nil
		}
	}
}

// buryMore deletes some of them and returns how many. It ends inner, but where it
// fails.
func (db *DB) buryMore(inner *kv.Tx, bucket uint64) (n int, err error) {
	tx := newTx(db, inner, true)
	m, err := readMeta(inner)
	if err != nil {
		return 0, err
	}
	tx.meta = &m
	p := prefixOf(spaceEntry, bucket)
	for k, v := range inner.Prefix(p[:]) {
		e, ok := decodeBucket(v)
		if !ok {
			continue
		}
		if err := tx.bury(e.id(), &e.use); err != nil {
			return 0, err
		}
		if err := inner.Delete(k); err != nil {
			return 0, err
		}
		if n++; n == nestedAtOnce {
			break
		}
	}
	if n > 0 {
		if err := inner.Put(metaKey, tx.meta.encode()); err != nil {
			return 0, err
		}
	}
	if err := inner.Commit(); err != nil {
		return 0, err
	}
	db.free = max(0, tx.meta.high-tx.meta.bytes())
	return n, nil
}
