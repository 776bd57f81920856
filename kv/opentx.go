package kv

import (
	"fmt"
	"runtime"
	"slices"
	"strings"
	"time"

	"nvkv/kv/internal/locks"
)

// TxInfo describes an open transaction.
type TxInfo struct {
	Began    time.Time
	Writable bool
	Where    string // file:line of the call that began it, of the nearest caller outside this package
}

// OpenTx returns the transactions that are open, those of View and Update included, in the order in
// which they began. It is for tests that look for a Tx that nobody ends, so it needs
// Options.PoisonSlices; without it the result is nil. It works after Close too.
func (db *DB) OpenTx() []TxInfo {
	t := &db.traced
	t.mu.Lock()
	defer t.mu.Unlock()
	var out []TxInfo
	for _, o := range t.open {
		out = append(out, o.TxInfo)
	}
	return out
}

// traced lists the open transactions; see OpenTx.
type traced struct {
	mu   locks.Mutex[locks.AtInner] // guards open
	open []tracedTx
}

type tracedTx struct {
	TxInfo
	tx *Tx
}

// trace notes that tx has begun, and returns it.
func (tx *Tx) trace() *Tx {
	if !tx.db.opt.PoisonSlices {
		return tx
	}
	info := TxInfo{time.Now(), tx.w != nil, outsideCaller()}
	t := &tx.db.traced
	t.mu.Lock()
	defer t.mu.Unlock()
	t.open = append(t.open, tracedTx{info, tx})
	return tx
}

// untrace notes that tx has ended.
func (tx *Tx) untrace() {
	if !tx.db.opt.PoisonSlices {
		return
	}
	t := &tx.db.traced
	t.mu.Lock()
	defer t.mu.Unlock()
	t.open = slices.DeleteFunc(t.open, func(o tracedTx) bool { return o.tx == tx })
}

// outsideCaller returns file:line of the nearest caller outside this package.
func outsideCaller() string {
	pcs := make([]uintptr, 32)
	frames := runtime.CallersFrames(pcs[:runtime.Callers(1, pcs)])
	f, more := frames.Next()
	own := f.Function[:strings.LastIndexByte(f.Function, '.')+1] // "module/kv."
	for more && strings.HasPrefix(f.Function, own) && !strings.HasSuffix(f.File, "_test.go") {
		f, more = frames.Next()
	}
	return fmt.Sprintf("%s:%d", f.File, f.Line)
}
