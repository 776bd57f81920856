package kv

import (
	"bytes"
	"iter"

	"nvkv/kv/internal/btree"
	"nvkv/kv/internal/record"
)

// Keys yields the keys of [start, end) in ascending order. A nil end is open; a nil start begins at
// the first key. Keys reads no record, because the index holds every key; only for a key with an
// expiry it reads when the key expires. So it does not notice that a record is damaged. A key is
// valid until the Tx ends and must not be written. An error ends the iteration, see Err. A
// writable Tx may change keys meanwhile, as with [Tx.All].
func (tx *Tx) Keys(start, end []byte) iter.Seq[[]byte] {
	start, end = bytes.Clone(start), bytes.Clone(end)
	return func(yieldKey func(key []byte) bool) {
		if tx.over() {
			tx.met(ErrTxClosed)
			return
		}
		if emptyRange(start, end) {
			return
		}
		yield, recall := tx.lendTo(func(key, _ []byte) bool { return yieldKey(key) })
		defer recall()
		if tx.w == nil {
			tx.scanKeys(start, end, yield)
			return
		}
		c := tx.Cursor()
		c.keysOnly = true
		c.base.AskKeys()
		for ok := c.Seek(start); ok && inside(c.key, end) && yield(c.key, nil); {
			ok = c.Next()
		}
		tx.met(c.err)
	}
}

// PrefixBackward yields the keys that begin with p in descending order; see [Tx.All].
func (tx *Tx) PrefixBackward(p []byte) iter.Seq2[[]byte, []byte] {
	return tx.Backward(p, prefixEnd(p))
}

// keyScan walks the keys of a snapshot in chunks, as scanner walks its records.
type keyScan struct {
	tx    *Tx
	c     btree.Cursor
	keys  [keysMost][]byte // of the chunk
	n     int              // number of keys in it
	size  int              // of the next chunk
	space []byte           // where the next keys go
}

const (
	keysFirst = 16
	keysMost  = 128

	// keySpace is the size of a piece of memory for keys. Pieces are not reused, because keys are
	// valid until the Tx ends. keyRoom is the room that a piece must have for one key more. A
	// longer key makes the piece grow.
	keySpace = 4096
	keyRoom  = 128
)

// scanKeys calls yield for the keys of [start, end) until yield returns false. The Tx is read-only.
func (tx *Tx) scanKeys(start, end []byte, yield func(k, v []byte) bool) {
	s := &keyScan{tx: tx, c: btree.NewCursor(&tx.db.ix, false), size: keysFirst}
	s.c.AskKeys()
	err := s.read(func() error {
		_, err := s.c.Seek(tx.root, start)
		return err
	})
	for err == nil && s.c.Valid() {
		err = s.read(s.fill)
		for _, key := range s.keys[:s.n] {
			if !inside(key, end) || !yield(key, nil) {
				return
			}
			if tx.over() { // ended inside yield
				tx.met(ErrTxClosed)
				return
			}
		}
	}
	tx.met(err)
}

// read calls fn in a section of the Tx.
func (s *keyScan) read(fn func() error) (err error) {
	db := s.tx.db
	db.readRoom()
	in, err := s.tx.enter()
	if err != nil {
		return err
	}
	defer s.tx.leave(in)
	defer db.guarded("scan", panicOnFault(true), &err)
	s.c.Renew()
	return fn()
}

// fill reads the keys of the next chunk. On an error, the keys before it are good.
func (s *keyScan) fill() error {
	s.n = 0
	size := s.size
	s.size = keysMost
	for ; size > 0 && s.c.Valid(); size-- { // expired keys count, so a section ends soon
		if cap(s.space)-len(s.space) < keyRoom {
			s.space = make([]byte, 0, keySpace)
		}
		from := len(s.space)
		space, err := s.c.AppendKey(s.space)
		if err != nil {
			return err
		}
		s.space = space
		key := space[from:len(space):len(space)]
		expired, err := s.tx.expired(s.c.Ref(), key)
		if err != nil {
			return err
		}
		if !expired {
			s.keys[s.n] = key
			s.n++
		}
		if err := s.c.Next(); err != nil {
			return err
		}
	}
	return nil
}

// loadKey is loadRecord for a cursor that gives out keys only.
func (c *Cursor) loadKey() (passed bool, err error) {
	key, err := c.base.AppendKey(nil)
	if err != nil {
		return false, err
	}
	if passed, err = c.tx.expired(c.base.Ref(), key); err != nil {
		return false, err
	}
	if passed {
		return true, c.passBase()
	}
	c.baseKey, c.loaded = key, true
	return false, nil
}

// expired says whether the record of key had expired when the Tx began. It reads the record only if
// the index says that it expires.
func (tx *Tx) expired(x btree.Ref, key []byte) (bool, error) {
	if x&btree.RefTTL == 0 {
		return false, nil
	}
	var rec record.Record
	if err := tx.db.readNamed(x, &rec); err != nil {
		return false, &CorruptError{Off: uint64(btree.RefOff(x)), Structure: "record", Key: bytes.Clone(key)}
	}
	return rec.Expired(tx.at), nil
}
