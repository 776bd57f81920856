package node

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// The time of a cluster is the latest that the clocks of a majority of its nodes have reached. A
// leader puts that time into its commands, so all replicas get the same one from the log. A clock
// that is wrong on a minority of the nodes moves it neither ahead nor back, the leader's included.
//
// Every node asks the others for their clocks now and then, so that it knows the time when it
// becomes leader. In between it counts on with the monotonic clock, which does not jump.

// askClock is the first byte of a connection that asks for a node's clock. The answer is 8 bytes,
// big-endian: nanoseconds since 1970. Raft's connections begin with smaller numbers.
const askClock = 31

// clockEvery is how long a node counts on by itself.
const clockEvery = 5 * time.Second

// clusterClock is the time of the cluster as a node knows it.
type clusterClock struct {
	mu   sync.Mutex
	at   time.Time // the time of the cluster
	when time.Time // by the monotonic clock; zero: not known yet
}

func (c *clusterClock) set(at, when time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at, c.when = at, when
}

// now returns the time of the cluster, and false where it is not known yet.
func (c *clusterClock) now() (time.Time, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at.Add(time.Since(c.when)), !c.when.IsZero()
}

// majorityTime returns the latest time that a majority of n clocks has reached, of which some are
// known, and false where they are too few. Clocks that are not known count as far behind.
func majorityTime(known []time.Time, n int) (time.Time, bool) {
	majority := n/2 + 1
	if len(known) < majority {
		return time.Time{}, false
	}
	slices.SortFunc(known, time.Time.Compare)
	return known[len(known)-majority], true
}

// watchClocks keeps r.clock right until the node ends.
func (r *running) watchClocks() {
	for {
		pause := clockEvery
		if !r.readClocks() {
			pause = r.c.Heartbeat / 2
		}
		select {
		case <-r.quit:
			return
		case <-time.After(pause):
		}
	}
}

// readClocks asks all nodes for their clocks, and says whether enough of them answered.
func (r *running) readClocks() bool {
	f := r.raft.GetConfiguration()
	if r.wait(f) != nil {
		return false
	}
	var others []raft.ServerAddress
	n, member := 0, false
	for _, s := range f.Configuration().Servers {
		switch {
		case s.Suffrage != raft.Voter:
			continue
		case s.ID == raft.ServerID(r.c.ID):
			member = true
		default:
			others = append(others, s.Address)
		}
		n++
	}
	if n == 0 {
		return false
	}
	began := time.Now()
	answers := make(chan time.Time, len(others))
	for _, to := range others {
		go func() { answers <- r.clockOf(to) }()
	}
	var known []time.Time
	for range others {
		if at := <-answers; !at.IsZero() {
			known = append(known, at.Add(-time.Since(began))) // as of when the questions were sent
		}
	}
	if member {
		known = append(known, r.c.Now().Add(-time.Since(began)))
	}
	at, ok := majorityTime(known, n)
	if ok {
		r.clock.set(at, began)
	}
	return ok
}

// clockOf asks another node for its clock; the zero time: it does not answer.
func (r *running) clockOf(to raft.ServerAddress) time.Time {
	l := &layer{r.queue, r.c.ClientTLS, address(r.c.Advertise)}
	conn, err := l.Dial(to, r.c.Heartbeat)
	if err != nil {
		return time.Time{}
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(r.c.Heartbeat))
	var b [8]byte
	if _, err := conn.Write([]byte{askClock}); err != nil {
		return time.Time{}
	}
	if _, err := io.ReadFull(conn, b[:]); err != nil {
		return time.Time{}
	}
	return time.Unix(0, int64(binary.BigEndian.Uint64(b[:])))
}

// tellClock answers a question for this node's clock.
func (m *mux) tellClock(c net.Conn) {
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(helloTime))
	_, _ = c.Write(binary.BigEndian.AppendUint64(nil, uint64(m.now().UnixNano())))
}

// now is the time for a command: never before what the state has seen.
func (r *running) now() (time.Time, error) {
	now, known := r.clock.now()
	if !known {
		return now, fmt.Errorf("%w: the clocks of a majority are not known yet", ErrUnavailable)
	}
	if seen := r.state.Clock(); now.Before(seen) {
		return seen, nil
	}
	return now, nil
}
