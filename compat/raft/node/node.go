package node

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/hashicorp/raft"
	nvkvraft "nvkv/compat/raft"
	"nvkv/kv"
)

var (
	// ErrUnavailable says that a call was not carried out, and may be tried again.
	ErrUnavailable = errors.New("node: unavailable")

	// ErrUnknown says that a command may have been carried out, or may be later, or not.
	ErrUnknown = errors.New("node: outcome unknown")
)

// NotLeaderError says that a call is the leader's, and who that is, where it is known. The call
// was not carried out.
type NotLeaderError struct{ Leader, Address string }

func (e *NotLeaderError) Error() string {
	if e.Address == "" {
		return "node: there is no leader"
	}
	return fmt.Sprintf("node: the leader is %s at %s", e.Leader, e.Address)
}

// Consistency says how fresh a read is.
type Consistency string

// The levels of consistency.
const (
	// Linearizable sees every write that had returned when the read began. The leader asks a
	// majority whether it still leads, and waits until it applied what is committed.
	Linearizable Consistency = "linearizable"

	// Lease is as Linearizable, but the leader asks nobody: it counts on its lease, and so on
	// clocks that run equally fast and on a process that is not stopped in between.
	Lease Consistency = "lease"

	// Stale is what this node has applied, however old.
	Stale Consistency = "stale"
)

// Node is a node that runs. It is safe for concurrent use.
type Node struct {
	c      Config
	mux    *mux
	cancel chan struct{}
	ended  chan struct{}
	once   sync.Once
	err    error // of the last closing

	mu      sync.Mutex
	r       *running // nil between a failure and the next opening
	failure error    // why it is nil
	users   sync.WaitGroup
}

// Open opens a node. It fails where its stores cannot be opened.
func Open(c Config) (*Node, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	n := &Node{c: c, cancel: make(chan struct{}), ended: make(chan struct{})}
	n.mux = newMux(&n.c)
	r, err := start(&n.c, n.mux.nodes)
	if err != nil {
		return nil, errors.Join(err, c.Listener.Close())
	}
	n.r = r
	go n.mux.serve()
	go n.supervise(r)
	return n, nil
}

// Clients is the listener for the connections of clients.
func (n *Node) Clients() net.Listener { return n.mux.clients }

// Close leaves the cluster as a crash would, in order: the others notice by a timeout. Transfer
// first where this node leads.
func (n *Node) Close() error {
	n.once.Do(func() { close(n.cancel) })
	<-n.ended
	return n.err
}

// supervise reopens the node after failures, until it is closed.
func (n *Node) supervise(r *running) {
	defer close(n.ended)
	for {
		var why error
		select {
		case <-r.log.failed:
			why = r.log.err
		case <-r.state.Failed():
			why = r.state.Failure()
		case <-n.cancel:
		}
		n.set(nil, why)
		n.err = r.halt()
		n.users.Wait()
		n.err = errors.Join(n.err, r.closeStores())
		if why == nil {
			n.err = errors.Join(n.err, n.mux.base.Close())
			return
		}
		n.c.Logger.Error("the node failed and is opened again", "error", why)
		if r = n.reopen(); r == nil {
			n.err = n.mux.base.Close()
			return
		}
		n.set(r, nil)
	}
}

// reopen opens the node again, as often as it takes; nil: it was closed meanwhile.
func (n *Node) reopen() *running {
	for pause := 200 * time.Millisecond; ; pause = min(2*pause, 5*time.Second) {
		select {
		case <-n.cancel:
			return nil
		case <-time.After(pause):
		}
		r, err := start(&n.c, n.mux.nodes)
		if err == nil {
			return r
		}
		n.set(nil, err)
		n.c.Logger.Error("the node cannot be opened", "error", err)
	}
}

func (n *Node) set(r *running, why error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.r, n.failure = r, why
}

// use runs fn while the node runs. fn must end soon after ctx.
func (n *Node) use(fn func(r *running) error) error {
	n.mu.Lock()
	r := n.r
	if r == nil {
		err := n.failure
		n.mu.Unlock()
		if err == nil {
			return fmt.Errorf("%w: closed", ErrUnavailable)
		}
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	n.users.Add(1)
	n.mu.Unlock()
	defer n.users.Done()
	return fn(r)
}

// Now is the time of the cluster, by which keys expire: the latest that the clocks of a majority of
// the nodes have reached. ErrUnavailable: this node does not know it yet.
func (n *Node) Now() (now time.Time, err error) {
	err = n.use(func(r *running) (err error) { now, err = r.now(); return err })
	return now, err
}

// applyTimeout is how long a command may wait for its turn in the leader.
const applyTimeout = 10 * time.Second

// Do has a command carried out and returns its result. It sets the command's Time.
func (n *Node) Do(c nvkvraft.Command) (res nvkvraft.Result, err error) {
	err = n.use(func(r *running) error {
		if r.raft.State() != raft.Leader {
			return r.leads()
		}
		var err error
		if c.Time, err = r.now(); err != nil {
			return err
		}
		b, err := c.Encode()
		if err != nil {
			return err
		}
		f := r.raft.Apply(b, applyTimeout)
		if err := r.wait(f); err != nil {
			return r.applyError(err)
		}
		res = f.Response().(nvkvraft.Result)
		if r.state.Failure() != nil && res.Err != nil {
			return fmt.Errorf("%w: %w", ErrUnknown, res.Err)
		}
		return res.Err
	})
	return res, err
}

// applyError says what an error of raft means for the command.
func (r *running) applyError(err error) error {
	switch {
	case errors.Is(err, raft.ErrNotLeader):
		addr, id := r.raft.LeaderWithID()
		return &NotLeaderError{Leader: string(id), Address: string(addr)}
	case errors.Is(err, raft.ErrEnqueueTimeout), errors.Is(err, raft.ErrLeadershipTransferInProgress):
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return fmt.Errorf("%w: %w", ErrUnknown, err)
}

// Read runs fn with a state that is as fresh as asked for. index is that of the last command in
// it, or of an earlier one.
func (n *Node) Read(ctx context.Context, c Consistency, fn func(s *nvkvraft.FSM, index uint64) error) error {
	return n.use(func(r *running) error {
		switch c {
		case Stale:
		case Lease:
			if err := r.leads(); err != nil {
				return err
			}
		case Linearizable, "":
			index, err := r.readIndex(ctx)
			if err == nil {
				err = r.state.WaitApplied(ctx, index)
			}
			if err != nil {
				return err
			}
		default:
			return fmt.Errorf("node: no such consistency: %.20q", c)
		}
		return fn(r.state, r.state.Applied())
	})
}

// Get returns the value of a key, or kv.ErrNotFound.
func (n *Node) Get(ctx context.Context, c Consistency, key []byte) (value []byte, index uint64, err error) {
	err = n.Read(ctx, c, func(s *nvkvraft.FSM, at uint64) (err error) {
		index = at
		value, err = s.Get(key)
		return err
	})
	return value, index, err
}

// Watch waits for events behind an index: see nvkvraft.FSM.Events. It ends when the node fails.
func (n *Node) Watch(ctx context.Context, after uint64) (events []nvkvraft.Event, upTo uint64, err error) {
	upTo = after
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	err = n.use(func(r *running) error {
		stop := make(chan struct{})
		defer close(stop)
		go func() {
			select {
			case <-r.log.failed:
			case <-r.state.Failed():
			case <-n.cancel:
			case <-stop:
			}
			cancel()
		}()
		events, upTo, err = r.state.Events(ctx, after)
		return err
	})
	if errors.Is(err, kv.ErrClosed) {
		err = fmt.Errorf("%w: closed", ErrUnavailable)
	}
	return events, upTo, err
}
