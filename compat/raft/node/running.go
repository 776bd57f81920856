package node

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
	nvkvraft "nvkv/compat/raft"
)

// running is a node between an opening and a closing.
type running struct {
	c         *Config
	log       *watched
	state     *nvkvraft.FSM
	raft      *raft.Raft
	transport *raft.NetworkTransport
	queue     *queue
	clock     clusterClock
	ready     atomic.Uint64 // the term in which this node leads and has applied all before it
	quit      chan struct{}
	done      sync.WaitGroup

	verify struct {
		sync.Mutex
		next *verification
		turn sync.Mutex // one round at a time
	}
}

// watched is a log that tells of its first error in writing.
type watched struct {
	*nvkvraft.Store
	once   sync.Once
	failed chan struct{}
	err    error
}

func (w *watched) watch(err error) error {
	if err != nil {
		w.once.Do(func() { w.err = err; close(w.failed) })
	}
	return err
}

func (w *watched) StoreLog(l *raft.Log) error         { return w.watch(w.Store.StoreLog(l)) }
func (w *watched) StoreLogs(l []*raft.Log) error      { return w.watch(w.Store.StoreLogs(l)) }
func (w *watched) DeleteRange(low, high uint64) error { return w.watch(w.Store.DeleteRange(low, high)) }

// settle ends the goroutine where a setting cannot be stored: raft would panic, which ends the
// process, and the node is about to be closed anyway.
func (w *watched) settle(err error) error {
	if w.watch(err) != nil {
		runtime.Goexit()
	}
	return nil
}

func (w *watched) Set(k, v []byte) error              { return w.settle(w.Store.Set(k, v)) }
func (w *watched) SetUint64(k []byte, v uint64) error { return w.settle(w.Store.SetUint64(k, v)) }

// start opens a node's stores and raft above them.
func start(c *Config, q *queue) (r *running, err error) {
	if err := os.MkdirAll(c.Dir, 0o700); err != nil {
		return nil, err
	}
	r = &running{c: c, quit: make(chan struct{}), queue: newQueue(q.addr)}
	defer func() {
		if err != nil {
			err = errors.Join(err, r.closeStores())
		}
	}()
	log, err := nvkvraft.Open(filepath.Join(c.Dir, "raft.nv"), c.Log)
	if err != nil {
		return nil, err
	}
	r.log = &watched{Store: log, failed: make(chan struct{})}
	if r.state, err = nvkvraft.OpenFSM(filepath.Join(c.Dir, "state.nv"), c.State); err != nil {
		return nil, err
	}
	snapshots, err := raft.NewFileSnapshotStoreWithLogger(c.Dir, 2, c.Logger)
	if err != nil {
		return nil, err
	}
	config := c.raft()
	needs, err := r.state.NeedsRestore(snapshots)
	if err != nil {
		return nil, err
	}
	config.NoSnapshotRestoreOnStart = !needs
	r.feed(q)
	r.transport = raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{
		Stream: &layer{r.queue, c.ClientTLS, address(c.Advertise)}, MaxPool: 3,
		Timeout: max(5*time.Second, 2*c.Heartbeat), Logger: c.Logger,
	})
	if err := r.bootstrap(config, snapshots); err != nil {
		return nil, err
	}
	r.raft, err = raft.NewRaft(config, r.state, r.log, r.log, snapshots, r.transport)
	if err != nil {
		return nil, err
	}
	r.done.Go(r.lead)
	r.done.Go(r.watchClocks)
	return r, nil
}

// feed passes connections of nodes to this running until it ends.
func (r *running) feed(q *queue) {
	r.done.Go(func() {
		for {
			select {
			case conn := <-q.conns:
				r.queue.put(conn)
			case <-q.done:
				_ = r.queue.Close()
				return
			case <-r.quit:
				return
			}
		}
	})
}

func (r *running) bootstrap(config *raft.Config, snapshots raft.SnapshotStore) error {
	if !r.c.Bootstrap {
		return nil
	}
	has, err := raft.HasExistingState(r.log, r.log, snapshots)
	if err != nil || has {
		return err
	}
	return raft.BootstrapCluster(config, r.log, r.log, snapshots, r.transport, raft.Configuration{
		Servers: []raft.Server{{ID: config.LocalID, Address: raft.ServerAddress(r.c.Advertise)}},
	})
}

// halt ends raft and all calls that wait for it. closeStores must follow.
func (r *running) halt() error {
	close(r.quit)
	return r.raft.Shutdown().Error()
}

// wait waits for a future, and for no longer than raft runs: of futures that raft took and did
// not look at, it answers none when it ends.
func (r *running) wait(f raft.Future) error {
	done := make(chan error, 1)
	go func() { done <- f.Error() }()
	select {
	case err := <-done:
		return err
	case <-r.quit:
		return raft.ErrRaftShutdown
	}
}

func (r *running) closeStores() (err error) {
	select {
	case <-r.quit:
	default:
		close(r.quit)
	}
	_ = r.queue.Close()
	if r.transport != nil {
		r.transport.CloseStreams()
		err = r.transport.Close()
	}
	r.done.Wait()
	if r.state != nil {
		err = errors.Join(err, r.state.Close())
	}
	if r.log != nil {
		err = errors.Join(err, r.log.Close())
	}
	if errors.Is(err, net.ErrClosed) {
		err = nil
	}
	return err
}

// lead notes from when on this node may answer reads as leader, and keeps the state's clock
// going while keys are to expire.
func (r *running) lead() {
	tick := time.NewTicker(max(r.c.Heartbeat/10, 10*time.Millisecond))
	defer tick.Stop()
	var told time.Time
	for {
		select {
		case <-r.quit:
			return
		case <-tick.C:
		}
		if r.raft.State() != raft.Leader {
			continue
		}
		term := r.raft.CurrentTerm()
		if r.ready.Load() != term {
			// What earlier leaders committed is applied when this returns.
			if r.wait(r.raft.Barrier(r.c.Heartbeat)) == nil && r.raft.CurrentTerm() == term {
				r.ready.Store(term)
			}
			continue
		}
		if now := time.Now(); now.Sub(told) >= time.Second && r.state.Expiring() {
			told = now
			r.tell()
		}
	}
}

// tell proposes an empty command, for its time.
func (r *running) tell() {
	now, err := r.now()
	if err != nil {
		return
	}
	c := nvkvraft.Command{Time: now}
	if b, err := c.Encode(); err == nil {
		_ = r.wait(r.raft.Apply(b, r.c.Heartbeat))
	}
}

// leads says whether this node is a leader that may answer reads.
func (r *running) leads() error {
	if r.raft.State() != raft.Leader {
		addr, id := r.raft.LeaderWithID()
		return &NotLeaderError{Leader: string(id), Address: string(addr)}
	}
	if r.ready.Load() != r.raft.CurrentTerm() {
		return fmt.Errorf("%w: the leader is new and not ready", ErrUnavailable)
	}
	return nil
}

// verification is a round of heartbeats that readers wait for together.
type verification struct {
	done chan struct{}
	err  error
}

// confirm asks a majority whether this node still leads. A reader never shares a round that began
// before it came.
func (r *running) confirm(ctx context.Context) error {
	r.verify.Lock()
	v := r.verify.next
	mine := v == nil
	if mine {
		v = &verification{done: make(chan struct{})}
		r.verify.next = v
	}
	r.verify.Unlock()
	if mine {
		// Those that come before the round begins join it.
		r.verify.turn.Lock()
		defer r.verify.turn.Unlock()
		r.verify.Lock()
		r.verify.next = nil
		r.verify.Unlock()
		v.err = r.wait(r.raft.VerifyLeader())
		close(v.done)
	}
	select {
	case <-v.done:
		return v.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// readIndex returns the index of the last command that is committed now, and confirms that no
// other leader has committed more.
func (r *running) readIndex(ctx context.Context) (uint64, error) {
	// The term comes first: it is the same at the end only if this node led all the time.
	term := r.raft.CurrentTerm()
	if err := r.leads(); err != nil {
		return 0, err
	}
	index := r.raft.CommitIndex()
	if err := r.confirm(ctx); err != nil {
		return 0, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	if r.raft.CurrentTerm() != term {
		return 0, fmt.Errorf("%w: the leader changed", ErrUnavailable)
	}
	// Entries that carry no command do not reach the state machine.
	for ; index > 0; index-- {
		var l raft.Log
		switch err := r.log.GetLog(index, &l); {
		case errors.Is(err, raft.ErrLogNotFound):
			return 0, nil // a snapshot has it, which is applied
		case err != nil:
			return 0, err
		case l.Type == raft.LogCommand || l.Type == raft.LogConfiguration:
			return index, nil
		}
	}
	return 0, nil
}
