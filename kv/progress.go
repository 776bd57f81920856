package kv

import "time"

// Progress is the progress of a Backup, Restore or Compact.
type Progress struct {
	Op    string        // "backup", "restore" or "compact"
	Done  int64         // keys processed
	Total int64         // keys in all, approximately; 0 if unknown
	Bytes int64         // written to the stream or into the store
	Took  time.Duration // since the beginning
}

// progressEvery is the least interval between two calls of Options.Progress.
const progressEvery = 50 * time.Millisecond

// progress calls Options.Progress at intervals.
type progress struct {
	fn    func(Progress)
	p     Progress
	began time.Time
	told  time.Time
}

func newProgress(op string, total int64, fn func(Progress)) *progress {
	at := time.Now()
	return &progress{fn: fn, p: Progress{Op: op, Total: total}, began: at, told: at}
}

// tell calls Options.Progress if the interval has passed, and always at the end.
func (p *progress) tell(done, bytes int64, end bool) {
	if p.fn == nil {
		return
	}
	at := time.Now()
	if !end && at.Sub(p.told) < progressEvery {
		return
	}
	p.told = at
	p.p.Done, p.p.Bytes, p.p.Took = done, bytes, at.Sub(p.began)
	p.fn(p.p)
}
