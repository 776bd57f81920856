package bench

import (
	"context"
	"fmt"
	"math"
	"time"

	"nvkv/bench/ycsb"
)

// scanPassesMax bounds the passes of a full scan.
const scanPassesMax = 5

// scanAll visits all records in order, several times. Operations are records; a latency is that of
// a whole pass.
func (s *session) scanAll(ctx context.Context, step Step) error {
	w := &worker{engine: s.engine}
	s.emit(event{Progress: &Progress{Engine: s.job.Engine, Step: step.Name, Total: s.live}})
	var passes latencies
	load, start := startLoad(), time.Now()
	last := time.Duration(0)
	for pass := 0; pass < scanPassesMax && (pass == 0 || s.job.PhaseLimit == 0 || last < s.job.PhaseLimit); pass++ {
		met := w.entries
		if err := w.engine.Scan(nil, math.MaxInt, w.visit); err != nil {
			return err
		}
		if met = w.entries - met; met != s.live && s.job.Engine != NoopEngine {
			return fmt.Errorf("wrong data: a full scan met %d records, there are %d", met, s.live)
		}
		now := time.Since(start)
		passes.record(ycsb.Scan, now-last)
		last = now
		if err := context.Cause(ctx); err != nil {
			return err
		}
	}
	r := Run{
		Phase: "run", Threads: 1, Records: s.base.InsertCount, Ops: w.entries, Entries: w.entries, ReadBytes: w.readBytes,
		Seconds: last.Seconds(), RSSAnonBytes: max(0, rssAnon()-s.ownBytes),
		OpsPerS: float64(w.entries) / last.Seconds(), Note: "operations are records; latencies are those of whole passes",
	}
	load.into(&r)
	passes.into(&r)
	return s.report(step, r)
}

// reportOpen reports the time of opening the store.
func (s *session) reportOpen(step Step) error {
	ns := int64(s.opened)
	return s.report(step, Run{
		Phase: "run", Threads: 1, Records: s.base.InsertCount, Ops: 1, Seconds: s.opened.Seconds(), OpsPerS: 1 / s.opened.Seconds(),
		P50: ns, P99: ns, P999: ns, Max: ns, RSSAnonBytes: max(0, rssAnon()-s.ownBytes),
		Note: "from open until the first read has answered",
	})
}
