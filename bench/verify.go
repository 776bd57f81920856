package bench

import (
	"fmt"

	"nvkv/bench/ycsb"
)

// ledger has the version of each record at the end of the last phase. It covers the records of the
// load phase. Later records are read only by the thread that inserted them, in the same phase.
type ledger struct {
	versions []ycsb.Version
	unsure   []bool // several threads wrote the record in one phase, so it may have the version of any of them
}

func newLedger(records uint64) *ledger {
	return &ledger{versions: make([]ycsb.Version, records), unsure: make([]bool, records)}
}

// apply enters the writes of a stream. executed is the number of its operations that were done.
func (l *ledger) apply(s *ycsb.Stream, executed int) {
	for i, op := range s.Ops[:executed] {
		if !op.Kind.Writes() || op.Record >= uint64(len(l.versions)) {
			continue
		}
		phase, thread := l.versions[op.Record].Stream()
		l.unsure[op.Record] = phase == s.Phase && (thread != s.Thread || l.unsure[op.Record])
		l.versions[op.Record] = s.Version(i)
	}
}

// verifier compares the values read in a phase with the writes in it and before it.
type verifier struct {
	before  *ledger
	phase   int
	workers []*worker // by thread, from 1
}

// check returns the number of samples that it compared, and an error for the first wrong one.
func (v *verifier) check() (uint64, error) {
	var checked uint64
	for _, w := range v.workers {
		for _, sample := range w.samples.ops {
			if err := v.checkSample(w, sample); err != nil {
				return checked, fmt.Errorf("wrong data: key %q, operation %d of thread %d: %w",
					w.stream.Key(sample.op), sample.op, w.stream.Thread, err)
			}
			checked++
		}
	}
	return checked, nil
}

func (v *verifier) checkSample(w *worker, sample sample) error {
	wl := w.stream.Workload
	op := w.stream.Ops[sample.op]
	version, err := wl.CheckValue(w.samples.bytes[sample.from:sample.to], op.Record)
	if err != nil || version == 0 { // 0: the fields are too short to carry a version
		return err
	}
	phase, thread := version.Stream()
	if phase != v.phase {
		return v.checkOlder(op, version)
	}
	if thread < 1 || thread > len(v.workers) {
		return fmt.Errorf("read %v: there was no such thread", version)
	}
	if err := v.checkWritten(v.workers[thread-1], op.Record, version); err != nil {
		return err
	}
	// In YCSB, threads that write single fields of one value race, so the newest field does not
	// show the order of their writes.
	races := len(v.workers) > 1 && wl.Fields > 1 && !wl.WriteAllFields
	if thread == w.stream.Thread && !races && version.Op()+1 != uint64(op.Own) {
		return fmt.Errorf("read %v, but the thread's latest write was operation %d", version, int(op.Own)-1)
	}
	return nil
}

// checkOlder checks a version from an earlier phase.
func (v *verifier) checkOlder(op ycsb.Op, version ycsb.Version) error {
	if op.Own != 0 {
		return fmt.Errorf("read %v, but the thread overwrote it at operation %d", version, op.Own-1)
	}
	if op.Record >= uint64(len(v.before.versions)) || v.before.unsure[op.Record] {
		return nil
	}
	if want := v.before.versions[op.Record]; version != want {
		return fmt.Errorf("read %v, but the phase began with %v", version, want)
	}
	return nil
}

// checkWritten checks that a worker has written version to the record.
func (v *verifier) checkWritten(by *worker, record uint64, version ycsb.Version) error {
	i := version.Op()
	if i >= uint64(by.executed) {
		return fmt.Errorf("read %v, which was never executed", version)
	}
	if op := by.stream.Ops[i]; op.Record != record || !op.Kind.Writes() {
		return fmt.Errorf("read %v, which did not write this record", version)
	}
	return nil
}
