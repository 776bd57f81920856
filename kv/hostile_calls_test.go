package kv

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"time"
)

type hostileMethod struct {
	name string
	call func(u *hostileUse, db *DB) error
}

func (u *hostileUse) key() []byte {
	switch u.rng.IntN(8) {
	case 0:
		return nil
	case 1:
		return []byte{0xff}
	case 2:
		return binary.BigEndian.AppendUint32(nil, u.rng.Uint32())
	}
	k := u.shape.keys[u.rng.IntN(len(u.shape.keys))]
	if u.rng.IntN(8) == 0 {
		k += "x"
	}
	return []byte(k)
}

func (u *hostileUse) value() []byte {
	return bytes.Repeat([]byte("h"), []int{0, 10, 100, 900, 5000, 70000}[u.rng.IntN(6)])
}

func (u *hostileUse) bounds() (start, end []byte) {
	start, end = u.key(), u.key()
	if bytes.Compare(start, end) > 0 {
		start, end = end, start
	}
	if u.rng.IntN(3) == 0 {
		end = nil
	}
	return start, end
}

// view runs fn in a snapshot.
func (u *hostileUse) view(db *DB, fn func(tx *Tx) error) error {
	return db.View(func(tx *Tx) error { return firstErr(fn(tx), tx.Err()) })
}

var hostileReads = []hostileMethod{
	{"get", func(u *hostileUse, db *DB) error {
		for range 10 {
			_, err := db.Get(u.key())
			u.tells("get", err)
			_, err = db.Has(u.key())
			u.tells("has", err)
			_, err = db.Expiry(u.key())
			u.tells("expiry", err)
		}
		return nil
	}},
	{"all", func(u *hostileUse, db *DB) error {
		return u.view(db, func(tx *Tx) error {
			for range tx.All(nil, nil) {
			}
			return nil
		})
	}},
	{"backward", func(u *hostileUse, db *DB) error {
		return u.view(db, func(tx *Tx) error {
			for range tx.Backward(nil, nil) {
			}
			return nil
		})
	}},
	{"part", func(u *hostileUse, db *DB) error {
		return u.view(db, func(tx *Tx) error {
			start, end := u.bounds()
			for range tx.All(start, end) {
			}
			for range tx.Backward(start, end) {
			}
			for range tx.Prefix([]byte("k")) {
			}
			_, err := tx.Get(u.key())
			if err == ErrNotFound {
				err = nil
			}
			return err
		})
	}},
	{"cursor", func(u *hostileUse, db *DB) error {
		return u.view(db, func(tx *Tx) error {
			c := tx.Cursor()
			for n, ok := 0, c.First(); ok && n < hostileSteps; ok = c.Next() {
				n++
			}
			u.tells("cursor", c.Err())
			for n, ok := 0, c.Last(); ok && n < hostileSteps; ok = c.Prev() {
				n++
			}
			u.tells("cursor", c.Err())
			for range 10 {
				c.Seek(u.key())
				c.Prev()
				c.SeekLT(u.key())
				c.Next()
				u.tells("cursor", c.Err())
			}
			return c.Close()
		})
	}},
	{"scan", func(u *hostileUse, db *DB) error {
		start, end := u.bounds()
		yes := func(_, _ []byte) bool { return true }
		return firstErr(db.Scan(start, end, 100, yes), db.Scan(start, end, -1, yes))
	}},
	{"check", func(u *hostileUse, db *DB) error { return db.Check(context.Background(), func(CheckIssue) {}) }},
	{"backup", func(u *hostileUse, db *DB) error {
		_, err := db.Backup(context.Background(), io.Discard)
		return err
	}},
	{"metrics", func(u *hostileUse, db *DB) error {
		db.Metrics()
		db.Info()
		return nil
	}},
}

var hostileWrites = []hostileMethod{
	{"put", func(u *hostileUse, db *DB) error {
		for range 10 {
			u.tells("put", db.Put(u.key(), u.value()))
		}
		return db.PutTTL(u.key(), u.value(), time.Nanosecond)
	}},
	{"put many", func(u *hostileUse, db *DB) error {
		b := db.NewBatch()
		for i := range 300 {
			b.Put(append(u.key(), fmt.Sprint(i)...), []byte("many"))
		}
		return db.Write(b)
	}},
	{"delete", func(u *hostileUse, db *DB) error {
		for range 10 {
			u.tells("delete", db.Delete(u.key()))
		}
		return nil
	}},
	{"delete all", func(u *hostileUse, db *DB) error {
		if u.rng.IntN(3) > 0 {
			return nil
		}
		for _, k := range u.shape.keys {
			u.tells("delete", db.Delete([]byte(k)))
		}
		return nil
	}},
	{"conditional", func(u *hostileUse, db *DB) error {
		for range 10 {
			_, err := db.PutIfAbsent(u.key(), u.value())
			u.tells("put if absent", err)
			k := u.key()
			old, _ := db.Get(k)
			_, err = db.CompareAndSwap(k, old, u.value())
			u.tells("swap", err)
			_, err = db.CompareAndDelete(u.key(), u.value())
			u.tells("delete if", err)
		}
		return nil
	}},
	{"delete range", func(u *hostileUse, db *DB) error { return db.DeleteRange(u.bounds()) }},
	{"delete everything", func(u *hostileUse, db *DB) error {
		if u.rng.IntN(3) > 0 {
			return nil
		}
		return db.DeleteRange(nil, nil)
	}},
	{"batch", func(u *hostileUse, db *DB) error {
		b := db.NewBatch()
		for range 20 {
			b.Put(u.key(), u.value())
			b.Delete(u.key())
		}
		if u.rng.IntN(2) == 0 {
			b.DeleteRange(u.bounds())
		}
		return db.Write(b)
	}},
	{"update", func(u *hostileUse, db *DB) error {
		return db.Update(func(tx *Tx) error {
			for range 5 {
				u.tells("update", tx.Put(u.key(), u.value()))
				u.tells("update", tx.Delete(u.key()))
			}
			u.tells("update", tx.DeleteRange(u.bounds()))
			for range tx.All(u.bounds()) {
			}
			return tx.Err()
		})
	}},
	{"roll back", func(u *hostileUse, db *DB) error {
		err := db.Update(func(tx *Tx) error {
			u.tells("update", tx.Put(u.key(), u.value()))
			return errEnough
		})
		return err
	}},
	{"snapshots", func(u *hostileUse, db *DB) error {
		a, err := db.Begin(false)
		if err != nil {
			return err
		}
		u.tells("put", db.Put(u.key(), u.value()))
		b, err := db.Begin(false)
		if err == nil {
			u.tells("delete", db.DeleteRange(u.bounds()))
			err = b.Rollback()
		}
		return firstErr(err, a.Rollback())
	}},
	{"checkpoint", func(u *hostileUse, db *DB) error { return db.Checkpoint(context.Background()) }},
	{"compact", func(u *hostileUse, db *DB) error { return db.Compact(context.Background()) }},
	{"sync", func(u *hostileUse, db *DB) error { return db.Sync() }},
	{"expire", func(u *hostileUse, db *DB) error { return db.collectExpired(context.Background(), sweepPerFlip) }},
}
