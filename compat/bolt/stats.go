package bbolt

import (
	"sync/atomic"
	"time"
)

// Stats counts what a database has done since it was opened.
type Stats struct {
	// TxStats adds up the transactions that have ended. It stands first, so that it is
	// aligned for atomic access.
	TxStats TxStats

	FreePageN     int // pages of Tx.Size that hold no entries
	PendingPageN  int // always 0
	FreeAlloc     int // bytes of those pages
	FreelistInuse int // always 0: there is no list

	TxN     int // read-only transactions begun
	OpenTxN int // of them, open now
}

// Sub returns what was counted since other.
func (s *Stats) Sub(other *Stats) Stats {
	if other == nil {
		return *s
	}
	d := Stats{FreePageN: s.FreePageN, PendingPageN: s.PendingPageN, FreeAlloc: s.FreeAlloc, FreelistInuse: s.FreelistInuse}
	d.TxN = s.TxN - other.TxN
	d.TxStats = s.TxStats.Sub(&other.TxStats)
	return d
}

// Stats returns what the database has done. What is free counts as of the last
// writable transaction that ended.
func (db *DB) Stats() Stats {
	if db.stats == nil {
		return Stats{}
	}
	db.statsMu.Lock()
	defer db.statsMu.Unlock()
	s := *db.stats
	s.TxStats = db.stats.TxStats.copy()
	return s
}

// account adds a Tx that has ended to the statistics.
func (db *DB) account(tx *Tx) {
	if db.stats == nil {
		return
	}
	db.statsMu.Lock()
	defer db.statsMu.Unlock()
	db.stats.TxStats.add(&tx.stats)
	if !tx.writable {
		db.stats.OpenTxN--
		return
	}
	db.countFree()
}

// countFree notes what is free. The caller holds the writer's lock and statsMu.
func (db *DB) countFree() {
	db.stats.FreePageN = int(db.free / int64(db.page))
	db.stats.FreeAlloc = db.stats.FreePageN * db.page
}

// TxStats counts what transactions have done. The drop-in knows no nodes and moves no
// pages: what it cannot count stays 0.
type TxStats struct {
	// Deprecated: use GetPageCount or IncPageCount.
	PageCount int64 // pages that what was put takes
	// Deprecated: use GetPageAlloc or IncPageAlloc.
	PageAlloc int64 // bytes that were put

	// Deprecated: use GetCursorCount or IncCursorCount.
	CursorCount int64 // cursors

	// Deprecated: use GetNodeCount or IncNodeCount.
	NodeCount int64 // buckets that were opened to be written
	// Deprecated: use GetNodeDeref or IncNodeDeref.
	NodeDeref int64

	// Deprecated: use GetRebalance or IncRebalance.
	Rebalance int64
	// Deprecated: use GetRebalanceTime or IncRebalanceTime.
	RebalanceTime time.Duration

	// Deprecated: use GetSplit or IncSplit.
	Split int64
	// Deprecated: use GetSpill or IncSpill.
	Spill int64
	// Deprecated: use GetSpillTime or IncSpillTime.
	SpillTime time.Duration

	// Deprecated: use GetWrite or IncWrite.
	Write int64 // items that were put or deleted
	// Deprecated: use GetWriteTime or IncWriteTime.
	WriteTime time.Duration // of commits
}

// fields returns all of it, in the order in which it stands.
func (s *TxStats) fields() [12]*int64 {
	return [12]*int64{
		&s.PageCount, &s.PageAlloc, &s.CursorCount, &s.NodeCount, &s.NodeDeref, &s.Rebalance, (*int64)(&s.RebalanceTime),
		&s.Split, &s.Spill, (*int64)(&s.SpillTime), &s.Write, (*int64)(&s.WriteTime),
	}
}

func (s *TxStats) add(other *TxStats) {
	from := other.fields()
	for i, to := range s.fields() {
		if n := atomic.LoadInt64(from[i]); n != 0 {
			atomic.AddInt64(to, n)
		}
	}
}

// Sub returns what was counted since other.
func (s *TxStats) Sub(other *TxStats) TxStats {
	d := s.copy()
	from := other.fields()
	for i, to := range d.fields() {
		*to -= atomic.LoadInt64(from[i])
	}
	return d
}

func (s *TxStats) copy() (c TxStats) {
	c.add(s)
	return c
}
