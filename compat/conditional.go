package compat

import (
	"bytes"
	"errors"

	"github.com/cockroachdb/pebble/v2"
	bolt "go.etcd.io/bbolt"
)

// A ConditionalWriter is an [Engine] that writes under a condition. The comparison and the write are
// one: no other write of the engine comes between them. A write whose condition does not hold
// changes nothing and returns false. It is optional; use a type assertion. nvkv, bbolt and pebble
// are.
//
// nvkv judges the condition at the instant of the commit. bbolt does it in a transaction. pebble has
// no such operation: its adapter keeps other writes out meanwhile with a lock.
type ConditionalWriter interface {
	// PutIfAbsent stores value if key is absent.
	PutIfAbsent(key, value []byte) (stored bool, err error)

	// CompareAndSwap replaces the value of key if it equals old. A nil old is the empty value.
	CompareAndSwap(key, old, value []byte) (swapped bool, err error)

	// CompareAndDelete removes key if its value equals old. A nil old is the empty value.
	CompareAndDelete(key, old []byte) (deleted bool, err error)
}

var (
	_ ConditionalWriter = (*nvkvEngine)(nil)
	_ ConditionalWriter = (*bboltEngine)(nil)
	_ ConditionalWriter = (*pebbleEngine)(nil)
)

func (e *nvkvEngine) PutIfAbsent(key, value []byte) (bool, error) {
	return e.db.PutIfAbsent(key, value)
}

func (e *nvkvEngine) CompareAndSwap(key, old, value []byte) (bool, error) {
	return e.db.CompareAndSwap(key, old, value)
}

func (e *nvkvEngine) CompareAndDelete(key, old []byte) (bool, error) {
	return e.db.CompareAndDelete(key, old)
}

// isValue returns the condition that the key exists and has the value old.
func isValue(old []byte) func(value []byte, exists bool) bool {
	return func(value []byte, exists bool) bool { return exists && bytes.Equal(value, old) }
}

func isAbsent(_ []byte, exists bool) bool { return !exists }

// errUnmet rolls a transaction back.
var errUnmet = errors.New("the condition does not hold")

func (e *bboltEngine) PutIfAbsent(key, value []byte) (bool, error) {
	return e.updateIf(key, len(key)+len(value), isAbsent, func(tx *bolt.Tx) error { return e.keys.bboltPut(tx, key, value) })
}

func (e *bboltEngine) CompareAndSwap(key, old, value []byte) (bool, error) {
	return e.updateIf(key, len(key)+len(value), isValue(old), func(tx *bolt.Tx) error { return e.keys.bboltPut(tx, key, value) })
}

func (e *bboltEngine) CompareAndDelete(key, old []byte) (bool, error) {
	return e.updateIf(key, len(key), isValue(old), func(tx *bolt.Tx) error { return e.keys.bboltDelete(tx, key) })
}

// updateIf runs fn in a transaction if the key satisfies the condition there.
func (e *bboltEngine) updateIf(key []byte, user int, holds func([]byte, bool) bool, fn func(*bolt.Tx) error) (bool, error) {
	err := e.update(uint64(user), func(tx *bolt.Tx) error {
		value := tx.Bucket(bboltData).Get(e.keys.stored(key))
		if !holds(value, value != nil) {
			return errUnmet
		}
		return fn(tx)
	})
	if errors.Is(err, errUnmet) {
		return false, nil
	}
	return err == nil, err
}

func (e *pebbleEngine) PutIfAbsent(key, value []byte) (bool, error) {
	return e.commitIf(key, isAbsent, putOpOf(key, value))
}

func (e *pebbleEngine) CompareAndSwap(key, old, value []byte) (bool, error) {
	return e.commitIf(key, isValue(old), putOpOf(key, value))
}

func (e *pebbleEngine) CompareAndDelete(key, old []byte) (bool, error) {
	return e.commitIf(key, isValue(old), Op{Key: key, Delete: true})
}

func putOpOf(key, value []byte) Op { return Op{Key: key, Value: value} }

// commitIf applies op if its key satisfies the condition. It keeps all other writes out meanwhile.
func (e *pebbleEngine) commitIf(key []byte, holds func([]byte, bool) bool, op Op) (bool, error) {
	if !e.gate.enter() {
		return false, ErrClosed
	}
	defer e.gate.leave()
	if e.readOnly {
		return false, ErrReadOnly
	}
	if !op.Delete {
		if _, err := e.keys.writable(key); err != nil {
			return false, pebbleError(err)
		}
	}
	e.writes.Lock()
	defer e.writes.Unlock()
	if e.failed.Load() {
		return false, ErrFailed
	}
	met, err := e.compare(key, holds)
	if err != nil || !met {
		return false, pebbleError(err)
	}
	batch := e.db.NewBatch()
	defer batch.Close()
	if err := e.keys.pebbleApply(batch, &op); err != nil {
		return false, pebbleError(err)
	}
	err = e.logged(userBytes([]Op{op}), func() error { return batch.Commit(e.write) })
	return err == nil, err
}

func (e *pebbleEngine) compare(key []byte, holds func([]byte, bool) bool) (met bool, err error) {
	value, closer, err := e.db.Get(e.keys.stored(key))
	if errors.Is(err, pebble.ErrNotFound) {
		return holds(nil, false), nil
	}
	if err != nil {
		return false, err
	}
	met = holds(value, true)
	return met, closer.Close()
}
