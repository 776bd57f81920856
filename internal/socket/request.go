package socket

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// These are the operations of a [Request].
const (
	OpStatus  = "status"  // result: Status
	OpGet     = "get"     // data: one record as AppendRecord writes it
	OpScan    = "scan"    // data: records as AppendRecord writes them, of one snapshot
	OpBackup  = "backup"  // data: a backup stream; events: Progress; result: Progress
	OpCheck   = "check"   // events: Issue; result: Progress
	OpCompact = "compact" // events: Progress; result: Progress
)

var ops = []string{OpStatus, OpGet, OpScan, OpBackup, OpCheck, OpCompact}

// Request is what a client asks for. Fields that its operation has no use for are ignored.
type Request struct {
	Op       string `json:"op"`
	Key      []byte `json:"key,omitempty"`       // of get
	Start    []byte `json:"start,omitempty"`     // of scan: the first key
	End      []byte `json:"end,omitempty"`       // of scan: the key before which it stops
	Bounded  bool   `json:"bounded,omitempty"`   // of scan: there is an End
	Reverse  bool   `json:"reverse,omitempty"`   // of scan: from the last key to the first
	KeysOnly bool   `json:"keys_only,omitempty"` // of scan: values are left empty
	Limit    uint64 `json:"limit,omitempty"`     // of scan: at most so many records; 0: all
	Command  string `json:"command,omitempty"`   // of the client, for people
}

// maxCommandBytes bounds Request.Command.
const maxCommandBytes = 200

// readRequest reads the frame of a request.
func readRequest(r io.Reader) (*Request, error) {
	kind, payload, err := readFrame(r)
	if err != nil {
		return nil, err
	}
	if kind != kindRequest {
		return nil, fmt.Errorf("%w: a frame of kind %q instead of a request", errProtocol, kind)
	}
	return parseRequest(payload)
}

func parseRequest(payload []byte) (*Request, error) {
	q := &Request{}
	d := json.NewDecoder(bytes.NewReader(payload))
	d.DisallowUnknownFields() // a later version may mean something by it
	if err := d.Decode(q); err != nil {
		return nil, fmt.Errorf("%w: a request that is no JSON of one: %w", errProtocol, err)
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, fmt.Errorf("%w: bytes behind a request", errProtocol)
	}
	if !slices.Contains(ops, q.Op) {
		return nil, fmt.Errorf("%w: unknown operation %.20q; known are %s", errProtocol, q.Op, strings.Join(ops, ", "))
	}
	if len(q.Command) > maxCommandBytes {
		q.Command = q.Command[:maxCommandBytes]
	}
	return q, nil
}

// Status is the result of OpStatus.
type Status struct {
	Pid       int             `json:"pid"`
	Command   string          `json:"command"`
	Path      string          `json:"path"`      // of the store, absolute
	OpenFor   time.Duration   `json:"open_ns"`   // since the store was opened
	Format    int             `json:"format"`    // kv.FormatVersion of the server
	Device    json.RawMessage `json:"device"`    // nvmap.Info
	Metrics   json.RawMessage `json:"metrics"`   // kv.Metrics
	Latencies json.RawMessage `json:"latencies"` // kv.Latencies
	Snapshots json.RawMessage `json:"snapshots"` // []kv.SnapshotInfo, the oldest ones
}

// Progress is how far a request has come.
type Progress struct {
	Done  int64         `json:"done"`  // keys processed
	Total int64         `json:"total"` // keys in all, approximately; 0 if unknown
	Bytes int64         `json:"bytes"`
	Moved int64         `json:"moved,omitempty"` // records, of compact
	Took  time.Duration `json:"took_ns"`
}

// Issue is a finding of a check.
type Issue struct {
	Off       uint64 `json:"offset"`
	Structure string `json:"structure"`
	Key       []byte `json:"key,omitempty"`
	Msg       string `json:"message"`
}
