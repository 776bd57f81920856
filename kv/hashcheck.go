package kv

import (
	"bytes"

	"nvkv/kv/internal/btree"
	"nvkv/kv/internal/hashindex"
	"nvkv/kv/internal/record"
)

// Check compares the hash table with the tree, beside readers and writers: each entry with the tree,
// and each key with its bucket if that is complete. A difference counts only if neither has changed
// meanwhile.

// hashOfTree is what Check calls the table.
const hashOfTree = "hash table"

// hashTries is how often a bucket that others change is looked at.
const hashTries = 10

// hashEntries checks all entries of the table.
func (c *checker) hashEntries() error {
	for from, n := 0, 1; from < n; from += checkChunk {
		if err := c.ctx.Err(); err != nil {
			return err
		}
		t := c.db.hash.index.Table()
		if t == nil {
			return nil
		}
		n = t.Buckets()
		err := c.inSection(func() (err error) {
			defer c.db.guarded("check", panicOnFault(true), &err)
			for i := from; i < min(n, from+checkChunk); i++ {
				c.hashBucket(i)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// hashBucket checks the entries of a bucket.
func (c *checker) hashBucket(i int) {
	var l hashindex.Look
	for range hashTries {
		if !c.db.hash.index.LookAt(i, &l) {
			return
		}
		whole := true
		l.Each(func(ref uint64, is func(uint64) bool) {
			whole = c.hashEntry(i, &l, btree.Ref(ref), is) && whole
		})
		if whole {
			return
		}
	}
}

// hashEntry checks an entry of bucket i. It returns false if something has changed meanwhile.
func (c *checker) hashEntry(i int, l *hashindex.Look, x btree.Ref, is func(uint64) bool) bool {
	db := c.db
	var rec record.Record
	if db.readRecord(btree.RefOff(x), &rec) != nil {
		c.unread[x] = i // stale, or the tree names it too
		return l.Stands()
	}
	key := rec.Key
	if rec.Flags&record.FlagSpillKey != 0 {
		key = db.keyInRuns(&rec)
	}
	key = bytes.Clone(key)
	found, now, stands := c.hashTree(key)
	if !stands || !l.Stands() {
		return false
	}
	switch {
	case !is(db.hash.index.Hash(key)):
		c.issue(btree.RefOff(x), hashOfTree, key, "names the record of another key")
	case !found:
		c.issue(btree.RefOff(x), hashOfTree, key, "names a record, and the index does not have the key")
	case now != x:
		c.issue(btree.RefOff(x), hashOfTree, key, "names a record, and the index names another at %#x", uint64(btree.RefOff(now)))
	}
	return true
}

// hashUnread checks the entries whose records could not be read: the tree names them too. Writers
// wait.
func (c *checker) hashUnread() {
	for x, i := range c.unread {
		var l hashindex.Look
		if _, reached := c.seen[btree.RefOff(x)]; reached || !c.db.hash.index.LookAt(i, &l) {
			continue
		}
		l.Each(func(ref uint64, _ func(uint64) bool) {
			if btree.Ref(ref) == x {
				c.issue(btree.RefOff(x), hashOfTree, nil, "names a slot that the index does not reach")
			}
		})
	}
}

// hashTree looks key up in the published tree. The answer counts if stands.
func (c *checker) hashTree(key []byte) (found bool, x btree.Ref, stands bool) {
	db := c.db
	shown := db.showing.Load()
	var h btree.Hit
	res := db.ix.Lookup(key, &h)
	found = res == btree.Found
	if found && !h.Sure {
		found, res = db.ix.Holds(&h, key)
	}
	stands = (res == btree.Found || res == btree.Absent) && shown&1 == 0 && db.stands(&h, shown)
	return found, h.Rec, stands
}

// hashKnows checks that the table has a key of the tree if its bucket is complete.
func (c *checker) hashKnows(key []byte) {
	db := c.db
	x := &db.hash.index
	if !x.On() {
		return
	}
	hash := x.Hash(key)
	for range hashTries {
		var l hashindex.Look
		if !x.Look(hash, &l) || !l.Complete() {
			return
		}
		found, now, stands := c.hashTree(key)
		if !stands || !found {
			continue
		}
		for ref := l.Next(); ref != 0; ref = l.Next() {
			if btree.Ref(ref) == now {
				return
			}
		}
		if l.Stands() {
			c.issue(btree.RefOff(now), hashOfTree, key, "its bucket is complete and does not have it")
			return
		}
	}
}
