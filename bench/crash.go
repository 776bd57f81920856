package bench

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"nvkv/bench/ycsb"
)

// ackEvery is the interval at which a doomed session, which will be killed, reports its progress.
const ackEvery = 2 * time.Millisecond

// doomedStream returns the stream of updates that a doomed session writes and the next session
// regenerates.
func (s *session) doomedStream(step Step) (*ycsb.Stream, error) {
	w, err := s.job.workload(step)
	if err != nil {
		return nil, err
	}
	return w.RunStream(ycsb.Spec{Seed: s.job.Seed, Phase: s.phase, Thread: 1, Threads: 1, FirstNew: s.next, Ops: w.OperationCount})
}

// writeUntilKilled updates records one by one and acknowledges them, until
// the process is killed.
func (s *session) writeUntilKilled(ctx context.Context, step Step) error {
	stream, err := s.doomedStream(step)
	if err != nil {
		return err
	}
	defer stream.Close()
	w := &worker{engine: s.engine, stream: stream, overTime: newSeries(), stop: new(atomic.Bool)}
	var acked atomic.Uint64
	go func() {
		for {
			time.Sleep(ackEvery)
			if n := acked.Load(); n > 0 {
				s.emit(event{Acked: n})
			}
		}
	}()
	for i := range stream.Ops {
		if _, err := w.do(i); err != nil {
			return err
		}
		acked.Store(uint64(i + 1))
		if context.Cause(ctx) != nil {
			return context.Cause(ctx)
		}
	}
	return errors.New("bench: all updates were done before the process was killed")
}

// verifyAcked checks that each record has the update that the killed session acknowledged last, or
// a later one.
func (s *session) verifyAcked(step Step) error {
	stream, err := s.doomedStream(step)
	if err != nil {
		return err
	}
	defer stream.Close()
	latest := map[uint64]int{}
	for i := range int(step.Acked) {
		latest[stream.Ops[i].Record] = i
	}
	var value []byte
	for record, i := range latest {
		key := stream.Key(i)
		if value, err = s.engine.Get(value[:0], key); err != nil {
			return fmt.Errorf("lost after the kill: key %q, acknowledged as operation %d: %w", key, i, err)
		}
		version, err := stream.Workload.CheckValue(value, record)
		if err != nil {
			return fmt.Errorf("after the kill: key %q: %w", key, err)
		}
		if err := survived(stream, record, version, i); err != nil {
			return fmt.Errorf("lost after the kill: key %q: %w", key, err)
		}
	}
	ns := int64(s.opened)
	return s.report(step, Run{
		Phase: "run", Threads: 1, Records: s.base.InsertCount, Ops: 1, Seconds: s.opened.Seconds(), OpsPerS: 1 / s.opened.Seconds(),
		P50: ns, P99: ns, P999: ns, Max: ns, Checked: uint64(len(latest)),
		Note: fmt.Sprintf("from open until the first read has answered, after SIGKILL; %d updates were acknowledged before, all there", step.Acked),
	})
}

// survived returns an error unless version is the acknowledged update i of the record or a later
// one.
func survived(stream *ycsb.Stream, record uint64, version ycsb.Version, i int) error {
	if version == 0 { // values too short to carry a version
		return nil
	}
	op := version.Op()
	if phase, _ := version.Stream(); phase != stream.Phase || op < uint64(i) {
		return fmt.Errorf("operation %d was acknowledged, %v is there", i, version)
	}
	if op >= uint64(len(stream.Ops)) || stream.Ops[op].Record != record {
		return fmt.Errorf("%v is there, which did not write it", version)
	}
	return nil
}
