package bbolt

import (
	"fmt"

	"go.etcd.io/bbolt/errors"
	"go.etcd.io/bbolt/internal/common"
)

// CreateBucket makes a nested bucket.
func (b *Bucket) CreateBucket(key []byte) (rb *Bucket, err error) {
	if lg := b.tx.db.Logger(); lg != silent {
		db := b.tx.db
		lg.Debugf("Creating bucket %q", key)
		defer func() { db.told(err, "Creating bucket %q", key) }()
	}
	if err := b.takesBucket(key); err != nil {
		return nil, err
	}
	if old := b.load(key); old != nil {
		if old[0] == tagBucket {
			return nil, errors.ErrBucketExists
		}
		return nil, errors.ErrIncompatibleValue
	}
	return b.create(key)
}

// CreateBucketIfNotExists returns the nested bucket of a name, which it makes if there
// is none.
func (b *Bucket) CreateBucketIfNotExists(key []byte) (rb *Bucket, err error) {
	if lg := b.tx.db.Logger(); lg != silent {
		db := b.tx.db
		lg.Debugf("Creating bucket if not exist %q", key)
		defer func() { db.told(err, "Creating bucket if not exist %q", key) }()
	}
	if err := b.takesBucket(key); err != nil {
		return nil, err
	}
	if child := b.Bucket(key); child != nil {
		return child, nil
	}
	if b.load(key) != nil {
		return nil, errors.ErrIncompatibleValue
	}
	return b.create(key)
}

// takesBucket says why no bucket of this name can be made, or nil.
func (b *Bucket) takesBucket(name []byte) error {
	if err := b.usable(); err != nil {
		return err
	}
	switch {
	case len(name) == 0:
		return errors.ErrBucketNameRequired
	case len(name) > MaxKeySize:
		return errors.ErrKeyTooLarge
	}
	return nil
}

// create makes a bucket under a key where nothing is.
func (b *Bucket) create(name []byte) (*Bucket, error) {
	tx := b.tx
	tx.gone.more = true
	e := bucketEntry{InBucket: common.NewInBucket(common.Pgid(tx.meta.next), 0)}
	if err := b.writeBucket(name, &e); err != nil {
		return nil, err
	}
	tx.meta.next++
	b.countBucket(len(name), comes)
	return b.open(name, e.append(nil)), nil
}

// writeBucket puts the entry of a nested bucket.
func (b *Bucket) writeBucket(name []byte, e *bucketEntry) error {
	var room keyRoom
	if err := b.tx.inner.Put(b.full(room[:0], name), e.append(nil)); err != nil {
		return b.tx.db.translate(err)
	}
	b.tx.wrote(len(name))
	return nil
}

// flush writes the entries of the buckets below b that have changed.
func (b *Bucket) flush() error {
	for _, child := range b.nested {
		if err := child.save(); err != nil {
			return err
		}
		if err := child.flush(); err != nil {
			return err
		}
	}
	return nil
}

// save writes the entry of b, if it has changed.
func (b *Bucket) save() error {
	now := b.entry()
	if now == b.saved {
		return nil
	}
	if err := b.parent.writeBucket(b.name, &now); err != nil {
		return err
	}
	b.saved = now
	return nil
}

// entry returns the entry of b as it is to be.
func (b *Bucket) entry() bucketEntry { return bucketEntry{*b.InBucket, b.use} }

// nestedEntry returns the nested bucket of a name, or why there is none. For the empty
// name that is, as in bbolt, another reason in a bucket that is empty.
func (b *Bucket) nestedEntry(name []byte) (*Bucket, error) {
	switch v := b.load(name); {
	case v == nil && len(name) == 0 && !b.Cursor().move(toFirst, nil):
		return nil, errors.ErrIncompatibleValue
	case v == nil:
		return nil, errors.ErrBucketNotFound
	case v[0] != tagBucket:
		return nil, errors.ErrIncompatibleValue
	}
	return b.Bucket(name), nil
}

// DeleteBucket removes a nested bucket with all that it holds, whose space is given
// back after the commit: that takes the Tx no more time and memory than one key does.
// A Bucket of it, or of one in it, can be read on and not be written.
func (b *Bucket) DeleteBucket(key []byte) (err error) {
	if lg := b.tx.db.Logger(); lg != silent {
		db := b.tx.db
		lg.Debugf("Deleting bucket %q", key)
		defer func() { db.told(err, "Deleting bucket %q", key) }()
	}
	if err := b.usable(); err != nil {
		return err
	}
	child, err := b.nestedEntry(key)
	if err != nil {
		return err
	}
	// Whoever collects what it holds reads the books of what lies in it.
	if err := child.flush(); err != nil {
		return err
	}
	if err := b.tx.bury(child.id(), &child.use); err != nil {
		return err
	}
	if err := b.erase(key); err != nil {
		return err
	}
	b.countBucket(len(key), goes)
	delete(b.nested, string(key))
	child.kill()
	return nil
}

func (b *Bucket) id() uint64 { return uint64(b.RootPage()) }

// kill notes that b was deleted, with what lies in it.
func (b *Bucket) kill() {
	b.dead = true
	for _, child := range b.nested {
		child.kill()
	}
	b.nested = nil
}

// MoveBucket moves a nested bucket with all that it holds to another bucket of the
// same transaction, under the same key.
func (b *Bucket) MoveBucket(key []byte, dstBucket *Bucket) (err error) {
	if lg := b.tx.db.Logger(); lg != silent {
		db := b.tx.db
		lg.Debugf("Moving bucket %q", key)
		defer func() { db.told(err, "Moving bucket %q", key) }()
	}
	if err := b.usable(); err != nil {
		return err
	}
	if err := dstBucket.usable(); err != nil {
		return err
	}
	if b.tx != dstBucket.tx {
		return errors.ErrDifferentDB
	}
	child, err := b.nestedEntry(key)
	if err != nil {
		return err
	}
	if b == dstBucket {
		return errors.ErrSameBuckets
	}
	if old := dstBucket.load(key); old != nil {
		if old[0] == tagBucket {
			return errors.ErrBucketExists
		}
		return errors.ErrIncompatibleValue
	}
	for in := dstBucket; in != nil; in = in.parent {
		if in == child {
			return fmt.Errorf("bucket %q cannot be moved into itself", key)
		}
	}
	return child.move(dstBucket)
}

// move puts the entry of b, which may go there, into another bucket.
func (b *Bucket) move(to *Bucket) error {
	from := b.parent
	b.tx.gone.more = true
	now := b.entry()
	if err := to.writeBucket(b.name, &now); err != nil {
		return err
	}
	b.saved = now
	if err := from.erase(b.name); err != nil {
		return err
	}
	from.countBucket(len(b.name), goes)
	to.countBucket(len(b.name), comes)
	delete(from.nested, string(b.name))
	to.adopt(b)
	return nil
}
