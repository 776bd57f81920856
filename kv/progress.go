package kv

import "time"

// Progress is how far a Backup, Restore or Compact has come.
type Progress struct {
	Op    string        // "backup", "restore" or "compact"
	Done  int64         // keys that are through
	Total int64         // keys there are, about; 0 where it is not known
	Bytes int64         // written: to the stream, or into the store
	Took  time.Duration // since it began
}

// progressEvery is how often Options.Progress is called at most.
const progressEvery = 50 * time.Millisecond

// progress calls Options.Progress now and then.
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

// tell says how far it is; at the end it always does.
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
