package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"nvkv/cmd/nvkv/internal/textrec"
	"nvkv/internal/socket"
	"nvkv/kv"
)

// remote is a store that another process has open and answers for, by the socket at path.
type remote struct {
	path    string
	command string // of this process, under which its snapshots are listed there
}

// owner is the process that answers.
type owner struct {
	Pid     int           `json:"pid"`
	Command string        `json:"command"`
	OpenFor time.Duration `json:"open_ns"` // since it opened the store
}

// dial returns the store that a process answers for at a socket, after making sure that it is the
// one at the path store.
func dial(ctx context.Context, at, store string) (*remote, error) {
	r := &remote{at, strings.Join(append([]string{filepath.Base(os.Args[0])}, os.Args[1:]...), " ")}
	st, err := r.socketStatus(ctx)
	if err != nil {
		return nil, err
	}
	mine, err := os.Stat(store)
	if theirs, e := os.Stat(st.Path); err == nil && e == nil && !os.SameFile(mine, theirs) {
		return nil, fmt.Errorf("the socket %s is of the store %s", at, st.Path)
	}
	return r, nil
}

// ask sends a request. It gives errors of the store their kind back.
func (r *remote) ask(ctx context.Context, q socket.Request, a socket.Answer, result any) error {
	q.Command = r.command
	answer, err := socket.Ask(ctx, r.path, &q, a)
	var coded *socket.CodedError
	if errors.As(err, &coded) {
		err = &remoteError{coded.Msg, remoteKinds[coded.Code]}
	}
	if err == nil && result != nil {
		err = json.Unmarshal(answer, result)
	}
	return ended(err)
}

// remoteError is an error of the process that has the store open.
type remoteError struct {
	msg  string
	kind error // nil if it is none of package kv
}

func (e *remoteError) Error() string { return e.msg }
func (e *remoteError) Unwrap() error { return e.kind }

// remoteKinds are the errors for the codes of the socket.
var remoteKinds = map[string]error{
	"not_found": kv.ErrNotFound, "closed": kv.ErrClosed, "read_only": kv.ErrReadOnly, "full": kv.ErrFull,
	"corrupt": kv.ErrCorrupt, "media_fault": kv.ErrMediaFault, "failed_store": kv.ErrFailed,
}

func (r *remote) socketStatus(ctx context.Context) (*socket.Status, error) {
	var st socket.Status
	return &st, r.ask(ctx, socket.Request{Op: socket.OpStatus}, socket.Answer{}, &st)
}

func (r *remote) status(ctx context.Context) (*status, error) {
	st, err := r.socketStatus(ctx)
	if err != nil {
		return nil, err
	}
	s := &status{Format: st.Format, Owner: &owner{st.Pid, st.Command, st.OpenFor}}
	err = errors.Join(json.Unmarshal(st.Metrics, &s.Metrics), json.Unmarshal(st.Latencies, &s.Latencies), json.Unmarshal(st.Device, &s.Device), json.Unmarshal(st.Snapshots, &s.Snapshots))
	return s, err
}

func (r *remote) get(ctx context.Context, key []byte) (rec textrec.Record, err error) {
	err = r.records(ctx, socket.Request{Op: socket.OpGet, Key: key}, func(got textrec.Record) error {
		rec = textrec.Record{Key: key, Value: append([]byte{}, got.Value...), Expires: got.Expires}
		return nil
	})
	return rec, err
}

func (r *remote) scan(ctx context.Context, k keyRange, fn func(textrec.Record) error) error {
	q := socket.Request{Op: socket.OpScan, Start: k.start, End: k.end, Bounded: k.end != nil, Reverse: k.reverse, KeysOnly: k.keysOnly}
	if k.limit > 0 {
		q.Limit = k.limit + 1 // a load mark is not counted
	}
	c := counted{ctx: ctx, limit: k.limit, fn: fn}
	if err := r.records(ctx, q, c.record); err != errStop {
		return err
	}
	return nil
}

// records asks for records.
func (r *remote) records(ctx context.Context, q socket.Request, fn func(textrec.Record) error) error {
	in := socket.Records{Each: func(key, value []byte, expiry int64) error {
		rec := textrec.Record{Key: key, Value: value}
		if expiry != 0 {
			rec.Expires = time.Unix(0, expiry)
		}
		return fn(rec)
	}}
	if err := r.ask(ctx, q, socket.Answer{Data: &in}, nil); err != nil {
		return err
	}
	return in.End()
}

func (r *remote) backup(ctx context.Context, w io.Writer, tell func(kv.Progress)) (int64, error) {
	var end socket.Progress
	err := r.ask(ctx, socket.Request{Op: socket.OpBackup}, socket.Answer{Data: w, Event: progressEvent("backup", tell)}, &end)
	return end.Bytes, err
}

func (r *remote) check(ctx context.Context, report func(kv.CheckIssue)) (keys int64, err error) {
	var end socket.Progress
	err = r.ask(ctx, socket.Request{Op: socket.OpCheck}, socket.Answer{Event: func(p json.RawMessage) error {
		var i socket.Issue
		err := json.Unmarshal(p, &i)
		if err == nil {
			report(kv.CheckIssue(i))
		}
		return err
	}}, &end)
	return end.Done, err
}

func (r *remote) compact(ctx context.Context, tell func(kv.Progress)) (moved, keys int64, err error) {
	var end socket.Progress
	err = r.ask(ctx, socket.Request{Op: socket.OpCompact}, socket.Answer{Event: progressEvent("compact", tell)}, &end)
	return end.Moved, end.Done, err
}

func progressEvent(op string, tell func(kv.Progress)) func(json.RawMessage) error {
	return func(p json.RawMessage) error {
		var s socket.Progress
		err := json.Unmarshal(p, &s)
		if err == nil {
			tell(kv.Progress{Op: op, Done: s.Done, Total: s.Total, Bytes: s.Bytes, Took: s.Took})
		}
		return err
	}
}
