package kv

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"nvkv/internal/socket"
)

// A store with Options.Socket answers other processes: see package internal/socket for the
// protocol. The answers use the methods that any caller may use, so nothing here is on the way of a
// read or a write.

// AutoSocket as Options.Socket makes a socket beside the store, at its path with SocketSuffix.
const AutoSocket = "auto"

// SocketSuffix is what AutoSocket appends to the path of a store.
const SocketSuffix = ".sock"

// serving is the socket of a DB, and what its answers need.
type serving struct {
	server *socket.Server
	path   string // of the store, absolute
	since  time.Time
}

// socketPath resolves AutoSocket for the store at path.
func socketPath(option, path string) string {
	if option == AutoSocket && path != "" {
		return path + SocketSuffix
	}
	return option
}

// listen begins to answer other processes if Options.Socket asks for it.
func (db *DB) listen(path string) error {
	at := socketPath(db.opt.Socket, path)
	switch at {
	case "":
		return nil
	case AutoSocket:
		return errors.New("nvkv: option Socket is \"auto\", but the store has no path beside which a socket could be")
	}
	if abs, err := filepath.Abs(path); path != "" && err == nil {
		path = abs
	}
	s := &serving{path: path, since: time.Now()}
	db.serving = s
	var err error
	if s.server, err = socket.Listen(at, db.answer); err != nil {
		db.serving = nil
		return fmt.Errorf("nvkv: option Socket: %w", err)
	}
	return nil
}

// stopServing ends the answers under way and removes the socket.
func (db *DB) stopServing() error {
	if db.serving == nil {
		return nil
	}
	return db.serving.server.Close()
}

// answer is the handler of the socket.
func (db *DB) answer(ctx context.Context, q *socket.Request, out *socket.Reply) (result any, err error) {
	defer func() { err = coded(err) }()
	switch q.Op {
	case socket.OpStatus:
		return db.status()
	case socket.OpGet:
		return nil, db.sendRecord(q.Key, out)
	case socket.OpScan:
		return nil, db.sendRange(ctx, q, out)
	case socket.OpBackup:
		return db.sendBackup(ctx, q, out)
	case socket.OpCheck:
		began := time.Now()
		err := db.Check(ctx, func(i CheckIssue) {
			out.Event(socket.Issue(i)) // out keeps the error, and the end of the client ends ctx
		})
		return socket.Progress{Done: db.Metrics().Keys, Took: time.Since(began)}, err
	case socket.OpCompact:
		before := db.Metrics().EvacuatedRecords
		var last Progress
		err := db.compactTelling(ctx, func(p Progress) { last = p; out.Event(progressOf(p)) })
		m := db.Metrics()
		return socket.Progress{Done: m.Keys, Bytes: last.Bytes, Moved: int64(m.EvacuatedRecords - before), Took: last.Took}, err
	}
	return nil, fmt.Errorf("nvkv: no operation %q", q.Op)
}

func progressOf(p Progress) socket.Progress {
	return socket.Progress{Done: p.Done, Total: p.Total, Bytes: p.Bytes, Took: p.Took}
}

// maxShownSnapshots bounds the snapshots in a status.
const maxShownSnapshots = 64

func (db *DB) status() (any, error) {
	c, err := db.enterCall()
	if err != nil {
		return nil, err
	}
	c.leave()
	snapshots := db.Snapshots()
	st := socket.Status{Pid: os.Getpid(), Command: filepath.Base(os.Args[0]), Path: db.serving.path, OpenFor: time.Since(db.serving.since), Format: FormatVersion}
	for _, part := range []struct {
		to *json.RawMessage
		v  any
	}{{&st.Device, db.Info()}, {&st.Metrics, db.Metrics()}, {&st.Latencies, db.Latencies()}, {&st.Snapshots, snapshots[:min(len(snapshots), maxShownSnapshots)]}} {
		if *part.to, err = json.Marshal(part.v); err != nil {
			return nil, err
		}
	}
	return st, nil
}

// beginFor is Begin(false) for a client, under whose name the snapshot is listed.
func (db *DB) beginFor(q *socket.Request, out *socket.Reply) (*Tx, error) {
	tx, err := db.Begin(false)
	if err != nil {
		return nil, err
	}
	db.publish.Lock()
	tx.h.by = &opener{text: fmt.Sprintf("process %d, %q, by the socket", out.Pid, q.Command)}
	db.publish.Unlock()
	return tx, nil
}

func (db *DB) sendRecord(key []byte, out *socket.Reply) error {
	var value []byte
	var expiry time.Time
	err := db.View(func(tx *Tx) error {
		v, err := tx.Get(key)
		if err == nil {
			value = bytes.Clone(v) // the client may be slow, and the snapshot ends now
			expiry, err = tx.Expiry(key)
		}
		return err
	})
	if err != nil {
		return err
	}
	return send(out, key, value, expiry)
}

func send(out *socket.Reply, key, value []byte, expiry time.Time) error {
	at := int64(0)
	if !expiry.IsZero() {
		at = expiry.UnixNano()
	}
	if _, err := out.Write(socket.AppendRecordHead(nil, key, len(value), at)); err != nil {
		return err
	}
	_, err := out.Write(value)
	return err
}

// sendRange sends the records of a range, of one snapshot.
func (db *DB) sendRange(ctx context.Context, q *socket.Request, out *socket.Reply) (err error) {
	tx, err := db.beginFor(q, out)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	defer db.guardedFn("scan", panicOnFault(true), &err)
	if q.KeysOnly && !q.Reverse {
		return sendKeys(ctx, tx, q, out)
	}
	c := tx.Cursor()
	defer c.Close() // Err returns its error
	ok, next := c.Seek(q.Start), c.Next
	within := func() bool { return !q.Bounded || bytes.Compare(c.Key(), q.End) < 0 }
	if q.Reverse {
		next, within = c.Prev, func() bool { return bytes.Compare(c.Key(), q.Start) >= 0 }
		if ok = q.Bounded && c.SeekLT(q.End) || !q.Bounded && c.Last(); !ok && c.Err() != nil {
			return c.Err()
		}
	}
	n := uint64(0)
	for ; ok && within() && ctx.Err() == nil; ok = next() {
		value := c.Value()
		if q.KeysOnly {
			value = nil
		}
		if err := send(out, c.Key(), value, c.Expiry()); err != nil {
			return err
		}
		if n++; n == q.Limit {
			break
		}
	}
	return errors.Join(ctx.Err(), c.Err())
}

func sendKeys(ctx context.Context, tx *Tx, q *socket.Request, out *socket.Reply) error {
	end := q.End
	if q.Bounded && end == nil {
		end = []byte{} // an empty range; nil is open
	} else if !q.Bounded {
		end = nil
	}
	n := uint64(0)
	for key := range tx.Keys(q.Start, end) {
		if err := send(out, key, nil, time.Time{}); err != nil {
			return err
		}
		if n++; n == q.Limit || ctx.Err() != nil {
			break
		}
	}
	return errors.Join(ctx.Err(), tx.Err())
}

func (db *DB) sendBackup(ctx context.Context, q *socket.Request, out *socket.Reply) (any, error) {
	tx, err := db.beginFor(q, out)
	if err != nil {
		return nil, err
	}
	defer tx.Rollback()
	var last Progress
	n, err := tx.backup(ctx, out, func(p Progress) { last = p; out.Event(progressOf(p)) })
	last.Bytes = n
	return progressOf(last), err
}

// socketCodes are the names by which a client of the socket knows errors again.
var socketCodes = []struct {
	err  error
	code string
}{
	{ErrNotFound, "not_found"}, {ErrClosed, "closed"}, {ErrReadOnly, "read_only"}, {ErrFull, "full"}, {ErrCorrupt, "corrupt"},
	{ErrMediaFault, "media_fault"}, {ErrFailed, "failed_store"}, {context.Canceled, "canceled"},
}

func coded(err error) error {
	if err == nil {
		return nil
	}
	for _, c := range socketCodes {
		if errors.Is(err, c.err) {
			return &socket.CodedError{Code: c.code, Msg: err.Error()}
		}
	}
	return &socket.CodedError{Code: "failed", Msg: err.Error()}
}
