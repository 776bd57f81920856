package kv

import (
	"bytes"
	"fmt"

	"nvkv/internal/crc32c"
	"nvkv/kv/internal/record"
)

// interim answers point reads of a store that was not closed, before its replay ends. The answer is
// the newest record of the key that the recovery found, else the record in the checkpoint's tree.
// The opening has read and decided everything by then; only the changes of the tree are left.
//
// I17. An answer given before the replay ends equals the answer given after it, except for one kind
// of damage (see lookBack). The data behind the answers do not change until then: the candidates,
// the pages of the last checkpoint, which its holder pins, and the slots of the records that count.
// Only index pages are allocated, and calls that write wait.
//
// All other calls wait for the replay. So does a read that meets an exception. If the replay fails,
// every call gets the error that the opening would have returned.
type interim struct {
	rc     *recovery
	ranges *ranges
	tables []interimTable
	done   chan struct{}
	err    error // of the replay; set before done is closed
}

// interimTable finds the candidates of one salvager by the hashes of their keys.
type interimTable struct {
	blocks [][]candidate
	heads  []uint32      // by the hash's low bits: number of a candidate, from 1; 0: none
	links  []interimLink // by candidate
}

type interimLink struct {
	hash uint32
	next uint32 // number of the next candidate, as in heads
}

// keyHash returns the hash by which candidates are found.
func keyHash(key []byte) uint32 { return crc32c.Sum(key, nil) }

// newInterim enters the candidates into hash tables.
func (rc *recovery) newInterim() (*interim, error) {
	in := &interim{rc: rc, ranges: rc.ranges, tables: make([]interimTable, len(rc.salvagers)), done: make(chan struct{})}
	err := rc.share(func(w int) error {
		in.tables[w].fill(rc.salvagers[w].blocks)
		return nil
	})
	return in, err
}

func (t *interimTable) fill(blocks [][]candidate) {
	n := 0
	for _, b := range blocks {
		n += len(b)
	}
	size := 1
	for size < n/2 {
		size *= 2
	}
	t.blocks = blocks
	t.heads = make([]uint32, size)
	t.links = make([]interimLink, 0, n)
	for _, b := range blocks {
		for i := range b {
			c := &b[i]
			link := interimLink{hash: c.leaf}
			if c.keyed() {
				head := &t.heads[c.leaf&uint32(size-1)]
				link.next = *head
				*head = uint32(len(t.links)) + 1
			}
			t.links = append(t.links, link)
		}
	}
}

// newest returns the newest candidate whose key has the hash, or nil.
func (in *interim) newest(hash uint32) (best *candidate) {
	for i := range in.tables {
		t := &in.tables[i]
		for n := t.heads[hash&uint32(len(t.heads)-1)]; n != 0; n = t.links[n-1].next {
			if t.links[n-1].hash != hash {
				continue
			}
			c := &t.blocks[(n-1)/candidateBlock][(n-1)%candidateBlock]
			if best == nil || best.older(c) {
				best = c
			}
		}
	}
	return best
}

// get appends the value of key to dst, if want. The caller is in a section. The error errRegister
// means that the caller must wait for the replay.
func (in *interim) get(dst, key []byte, want bool) ([]byte, error) {
	select {
	case <-in.done:
		return dst, errRegister // the replay has ended or failed
	default:
	}
	out, err := in.try(dst, key, want)
	if in.rc.db.interim.Load() != in || err != nil && err != ErrNotFound {
		return dst, errRegister // the replay has ended: slots may have been reused
	}
	return out, err
}

func (in *interim) try(dst, key []byte, want bool) ([]byte, error) {
	rec, err := in.record(key)
	if err != nil {
		return dst, err
	}
	if rec.Spilled() {
		return dst, errRegister
	}
	if want {
		dst = appendValue(dst, rec.Value)
	}
	return dst, nil
}

// record returns the record that key has after the replay.
func (in *interim) record(key []byte) (*record.Record, error) {
	rc, db := in.rc, in.rc.db
	if len(key) > MaxKeyBytes {
		return nil, ErrNotFound
	}
	c := in.newest(keyHash(key))
	if c == nil || db.off(ruleI17) {
		if rc.st.root == 0 || in.ranges.cover(key, rc.st.last, 0) {
			return nil, ErrNotFound
		}
		return db.recordAt(key, rc.st.root, db.now())
	}
	rec := new(record.Record)
	if err := db.readRecord(c.off, rec); err != nil {
		return nil, err
	}
	switch {
	case rec.Number != c.number || !bytes.Equal(rec.Key, key):
		return nil, errRegister // another key with the same hash
	case c.kind == record.KindDelete || in.ranges.cover(key, c.number, c.ordinal) || rec.Expired(db.now()):
		return nil, ErrNotFound
	}
	return rec, nil
}

// end ends the interim with the result of the replay.
func (in *interim) end(err error) {
	if err == nil {
		in.rc.db.interim.Store(nil)
	} else {
		in.err = fmt.Errorf("open: %w", err)
	}
	close(in.done)
}

// replayed waits for the replay, if one is under way, and returns its error. The caller must not be
// in a section.
func (db *DB) replayed() error {
	in := db.interim.Load()
	if in == nil {
		return nil
	}
	<-in.done
	return in.err
}

// mayReplayLate says whether the replay can run beside reads and is long enough for that. It cannot
// if a candidate has its key in runs, because its hash is unknown, or is rotten. It cannot if the
// list of ended runs is nearly full, because that needs a checkpoint first.
func (rc *recovery) mayReplayLate() bool {
	n := 0
	bare := false
	rc.each(func(c *candidate) {
		n++
		bare = bare || c.keyed() && c.flags&record.FlagSpillKey != 0 || c.flags&flagRotten != 0
	})
	from := rc.db.opt.lateFrom
	long := n >= from || rc.db.r.SlabCount() >= from
	return n > 0 && long && !bare && len(rc.st.ended)+1 < checkpointAt
}

// replayLate starts a goroutine that has the writer's turn and does the replay.
func (rc *recovery) replayLate() error {
	db := rc.db
	in, err := rc.newInterim()
	if err != nil {
		return err
	}
	db.turn.hold()
	db.late = make(chan struct{})
	db.interim.Store(in)
	db.turn.pass(func() {
		if db.opt.holdReplay != nil {
			<-db.opt.holdReplay
		}
		err := rc.finishLate()
		if err != nil {
			_ = db.fail(err)
		} else {
			db.start()
		}
		in.end(err)
		db.turn.give()
		close(db.late)
		db.logOpening("replaying", err)
	})
	return nil
}

func (rc *recovery) finishLate() (err error) {
	defer rc.db.guarded("open", panicOnFault(true), &err)
	return rc.finish()
}
