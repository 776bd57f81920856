package bbolt

import (
	"encoding/binary"
	stderrors "errors"
	"fmt"

	"nvkv/kv"
)

// Where the medium is full, the store still takes a transaction that does nothing but delete. One
// of the drop-in writes books too, and the record of a bucket that is deleted. So where such a
// transaction finds no room and only deleted, it is done once more without them: its deletes, the
// items of its deleted buckets as ranges, and the mark that the books are right. Then the books are
// counted anew, in the room that this gave, or by the next transaction that finds some, or by the
// next Open. Until then they say too much, never too little.

// booksKey is the key of the mark.
var booksKey = []byte{spaceBooks}

// gone is what a Tx deleted, while it has done nothing else.
type gone struct {
	more    bool   // it did something else, or too much
	keys    []byte // of entries, as the store has them, each with its length before it
	buckets []uint64
	nested  []bool // whether each of them holds buckets
}

// goneMost bounds gone.keys, which is a copy of what the store's own transaction has.
const goneMost = 32 << 20

// key notes an entry that was deleted.
func (g *gone) key(key []byte) {
	if g.more = g.more || len(g.keys) > goneMost; !g.more {
		g.keys = append(binary.AppendUvarint(g.keys, uint64(len(key))), key...)
	}
}

// bucket notes a bucket that was deleted.
func (g *gone) bucket(id uint64, nested bool) {
	g.buckets, g.nested = append(g.buckets, id), append(g.nested, nested)
}

// onlyDeleted says whether the Tx did nothing but delete.
func (tx *Tx) onlyDeleted() bool {
	return !tx.gone.more && len(tx.gone.keys) > 0 && tx.inRoot.InSequence() == tx.before.root && tx.root.sequencesKept()
}

// sequencesKept says whether the buckets below b that were opened have the sequences that they had.
func (b *Bucket) sequencesKept() bool {
	for _, child := range b.nested {
		if child.InSequence() != child.saved.InSequence() || !child.sequencesKept() {
			return false
		}
	}
	return true
}

// publishDeletes commits the deletes of a Tx whose commit found the medium full. The books are to be
// counted afterwards.
func (tx *Tx) publishDeletes() (err error) {
	db := tx.db
	if tx.inner, err = db.store.Begin(true); err != nil {
		return err
	}
	for b := tx.gone.keys; len(b) > 0; {
		n, size := binary.Uvarint(b)
		if err := tx.inner.Delete(b[size : size+int(n)]); err != nil {
			return err
		}
		b = b[size+int(n):]
	}
	for i, id := range tx.gone.buckets {
		if err := tx.dropItems(id, tx.gone.nested[i]); err != nil {
			return err
		}
	}
	if err := tx.inner.Delete(booksKey); err != nil {
		return err
	}
	if !tx.noSync() {
		if err := tx.inner.SetDurability(kv.Sync); err != nil {
			return err
		}
	}
	if err := tx.inner.Commit(); err != nil {
		return err
	}
	tx.deleted, db.recountDue = false, true
	return nil
}

// dropItems deletes the items of a deleted bucket, and of those in it.
func (tx *Tx) dropItems(id uint64, nested bool) error {
	p := prefixOf(spaceEntry, id)
	if nested {
		for _, v := range tx.inner.Prefix(p[:]) {
			if e, ok := decodeBucket(v); ok {
				if err := tx.dropItems(e.id(), e.use.buckets > 0); err != nil {
					return err
				}
			}
		}
		if err := tx.inner.Err(); err != nil {
			return err
		}
	}
	end := p.end()
	return tx.inner.DeleteRange(p[:], end[:])
}

// tryRecount counts the books anew where that is due. The caller holds the writer's lock, and has no
// writable kv.Tx open.
func (db *DB) tryRecount() {
	if !db.recountDue {
		return
	}
	if err := db.recount(); err != nil {
		db.Logger().Errorf("Size says too much until the books can be counted: %v", err)
	}
}

func (db *DB) recount() (err error) {
	inner, err := db.store.Begin(true)
	if err != nil {
		return err
	}
	tx := newTx(db, inner, true)
	defer func() { err = joinErrors(err, inner.Rollback()) }()
	if err := tx.readBooks(); err != nil {
		return err
	}
	if err := tx.countBooks(); err != nil {
		return err
	}
	if err := tx.writeBooks(); err != nil {
		return err
	}
	if err := inner.Put(booksKey, []byte{tagMeta}); err != nil {
		return err
	}
	if err := inner.SetDurability(kv.Sync); err != nil {
		return err
	}
	if err := inner.Commit(); err != nil {
		return err
	}
	db.free, db.recountDue = max(0, tx.meta.high-tx.meta.bytes()), false
	return nil
}

// countBooks sets the books of all buckets to what they hold.
func (tx *Tx) countBooks() (err error) {
	defer caught(&err)
	c := &checker{tx: tx, out: make(chan error, 1), seen: map[uint64]bool{0: true}, recount: true}
	c.stringer = HexKVStringer()
	err = c.bucket(&tx.root, nil, "the root")
	if err == nil {
		err = c.garbage()
	}
	select {
	case wrong := <-c.out:
		return fmt.Errorf("counting the books: %w", wrong)
	default:
	}
	tx.meta.all, tx.meta.apart = c.found, c.apart
	return err
}

// full says whether a commit found no room.
func full(err error) bool { return stderrors.Is(err, kv.ErrFull) && !stderrors.Is(err, kv.ErrFailed) }
