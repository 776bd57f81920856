package kv

import (
	"fmt"
	"runtime"
	"strings"
	"time"
)

// SnapshotInfo describes an open snapshot: a Tx, or a call that reads in one.
type SnapshotInfo struct {
	Age         time.Duration `json:"age_ns"`
	PinnedBytes int64         `json:"pinned_bytes"` // old versions that would be free without it and all older ones
	Writer      bool          `json:"writer"`       // it belongs to a writable Tx
	By          string        `json:"by"`           // who opened it, "" if unknown: see DB.Snapshots
}

// Snapshots lists the open snapshots, the oldest first. With Options.Socket each says who opened
// it: the function, file and line that called Begin, View, Backup or another method of this
// package, or the process that reads by the socket. Without Options.Socket that is not recorded.
func (db *DB) Snapshots() []SnapshotInfo {
	list := []SnapshotInfo{}
	s, err := db.enterCall()
	if err != nil {
		return list
	}
	defer s.leave()
	var by []*opener
	db.publish.Lock()
	for h := db.holders.oldest; h != nil; h = h.newer {
		if h.records {
			list = append(list, SnapshotInfo{Age: time.Since(h.opened), PinnedBytes: h.pinned, Writer: h.brief})
			by = append(by, h.by)
		}
	}
	db.publish.Unlock()
	for i, o := range by {
		list[i].By = o.String()
	}
	return list
}

// opener is who opened a snapshot.
type opener struct {
	pcs  [4]uintptr
	text string // if there is one, instead of the program counters
}

// openedBy returns the caller of this package if the store records it, and nil otherwise.
func (db *DB) openedBy() *opener {
	if db.opt.Socket == "" {
		return nil
	}
	o := &opener{}
	runtime.Callers(3, o.pcs[:])
	return o
}

// String names the innermost function outside this package.
func (o *opener) String() string {
	switch {
	case o == nil:
		return ""
	case o.text != "":
		return o.text
	}
	frames := runtime.CallersFrames(o.pcs[:])
	for {
		f, more := frames.Next()
		inside := strings.HasPrefix(f.Function, "nvkv/kv.") && !strings.HasSuffix(f.File, "_test.go")
		if f.Function != "" && !inside {
			return fmt.Sprintf("%s at %s:%d", f.Function, f.File, f.Line)
		}
		if !more {
			return ""
		}
	}
}
