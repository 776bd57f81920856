package main

import (
	"bytes"
	"context"
	"errors"
	"io"

	"nvkv/cmd/nvkv/internal/textrec"
	"nvkv/kv"
	"nvkv/nvmap"
)

// reader is a store as commands read it: opened by this process (local), or by another process that
// answers by its socket (remote).
type reader interface {
	get(ctx context.Context, key []byte) (textrec.Record, error)

	// scan calls fn for the records of a range, of one snapshot. The slices are valid during the
	// call. errStop from fn ends the scan without an error.
	scan(ctx context.Context, r keyRange, fn func(textrec.Record) error) error

	status(ctx context.Context) (*status, error)

	// backup calls tell at intervals.
	backup(ctx context.Context, w io.Writer, tell func(kv.Progress)) (int64, error)

	check(ctx context.Context, report func(kv.CheckIssue)) (keys int64, err error)
}

// keyRange is what a scan reads.
type keyRange struct {
	start, end []byte // a nil end is open
	reverse    bool
	keysOnly   bool   // values are empty, and expiries may be left out
	limit      uint64 // 0: all
}

// status is what a store says of itself.
type status struct {
	Metrics   kv.Metrics
	Latencies kv.Latencies
	Device    nvmap.Info
	Format    int
	Snapshots []kv.SnapshotInfo
	Owner     *owner // nil if this process has the store open
}

// errStop makes a scan end without an error.
var errStop = errors.New("stop")

// local is a store that this process has open.
type local struct{ db *kv.DB }

func (l local) get(_ context.Context, key []byte) (rec textrec.Record, err error) {
	err = l.db.View(func(tx *kv.Tx) error {
		value, err := tx.Get(key)
		if err != nil {
			return err
		}
		rec.Key, rec.Value = key, bytes.Clone(value)
		rec.Expires, err = tx.Expiry(key)
		return err
	})
	return rec, err
}

func (l local) scan(ctx context.Context, r keyRange, fn func(textrec.Record) error) error {
	return l.db.View(func(tx *kv.Tx) error {
		if err := scanTx(ctx, tx, r, fn); err != errStop {
			return err
		}
		return nil
	})
}

func scanTx(ctx context.Context, tx *kv.Tx, r keyRange, fn func(textrec.Record) error) error {
	c := counted{ctx: ctx, limit: r.limit, fn: fn}
	if r.keysOnly && !r.reverse {
		for key := range tx.Keys(r.start, r.end) {
			if err := c.record(textrec.Record{Key: key}); err != nil {
				return err
			}
		}
		return tx.Err()
	}
	cur := tx.Cursor()
	defer cur.Close() // Err returns its error
	next, within := cur.Next, func() bool { return r.end == nil || bytes.Compare(cur.Key(), r.end) < 0 }
	begin := func() bool { return cur.Seek(r.start) }
	if r.reverse {
		next, within = cur.Prev, func() bool { return bytes.Compare(cur.Key(), r.start) >= 0 }
		begin = cur.Last
		if r.end != nil {
			begin = func() bool { return cur.SeekLT(r.end) }
		}
	}
	for ok := begin(); ok && within(); ok = next() {
		if err := c.record(textrec.Record{Key: cur.Key(), Value: cur.Value(), Expires: cur.Expiry()}); err != nil {
			return err
		}
	}
	return cur.Err()
}

// counted passes at most limit records on, and leaves load marks out.
type counted struct {
	ctx   context.Context
	limit uint64
	fn    func(textrec.Record) error
	n     uint64
}

func (c *counted) record(rec textrec.Record) error {
	if isLoadMark(rec.Key) {
		return nil
	}
	if err := c.fn(rec); err != nil {
		return err
	}
	if c.n++; c.n == c.limit {
		return errStop
	}
	if c.n%1024 == 0 {
		return interrupted(c.ctx)
	}
	return nil
}

func (l local) status(context.Context) (*status, error) {
	return &status{Metrics: l.db.Metrics(), Latencies: l.db.Latencies(), Device: l.db.Info(), Format: kv.FormatVersion, Snapshots: l.db.Snapshots()}, nil
}

// backup calls Options.Progress, which g.read has set, instead of tell.
func (l local) backup(ctx context.Context, w io.Writer, _ func(kv.Progress)) (int64, error) {
	return l.db.Backup(ctx, w)
}

func (l local) check(ctx context.Context, report func(kv.CheckIssue)) (keys int64, err error) {
	err = l.db.Check(ctx, report)
	return l.db.Metrics().Keys, err
}
