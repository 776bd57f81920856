package bbolt

// Compact copies all of src into dst, which is to be empty, in transactions of about
// txMaxSize bytes of keys and values; 0: in one. It frees nothing that the store does
// not free by itself, and gives back what Stats.FreePageN counts.
func Compact(dst, src *DB, txMaxSize int64) error {
	c := &compaction{dst: dst, most: txMaxSize}
	var err error
	if c.tx, err = dst.Begin(true); err != nil {
		return err
	}
	err = src.View(func(from *Tx) error { return c.copy(&from.root, nil) })
	if err != nil {
		if c.tx != nil {
			_ = c.tx.Rollback()
		}
		return err
	}
	return c.tx.Commit()
}

// compaction is a Compact under way.
type compaction struct {
	dst  *DB
	tx   *Tx
	most int64
	size int64
	to   *Bucket // where items go; nil after the transaction has changed
}

// copy copies a bucket to where path leads.
func (c *compaction) copy(from *Bucket, path [][]byte) error {
	return from.ForEach(func(k, v []byte) error {
		if err := c.make(int64(len(k) + len(v))); err != nil {
			return err
		}
		to := c.at(path)
		if v != nil {
			return to.Put(k, v)
		}
		nested := from.Bucket(k)
		made, err := to.CreateBucket(k)
		if err == nil {
			err = made.SetSequence(nested.Sequence())
		}
		if err != nil {
			return err
		}
		c.to = nil
		err = c.copy(nested, append(path[:len(path):len(path)], k))
		c.to = nil
		return err
	})
}

// make makes room for n bytes: in a new transaction, where the one under way is full.
func (c *compaction) make(n int64) error {
	if c.size += n; c.most == 0 || c.size <= c.most {
		return nil
	}
	c.size, c.to = n, nil
	err := c.tx.Commit()
	c.tx = nil
	if err != nil {
		return err
	}
	c.tx, err = c.dst.Begin(true)
	return err
}

// at returns the bucket to which path leads.
func (c *compaction) at(path [][]byte) *Bucket {
	if c.to == nil {
		c.to = &c.tx.root
		for _, name := range path {
			c.to = c.to.Bucket(name)
		}
	}
	return c.to
}
