// Package node runs one node of a cluster: a raft log, a state machine and snapshots in one
// directory, and the traffic between nodes and of clients on one address.
//
// A node whose store fails, or is full, takes itself out of the cluster: it closes everything
// and opens it again, after a pause that grows, until that succeeds. Meanwhile the others elect a
// leader and go on.
package node

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	nvkvraft "nvkv/compat/raft"
)

// Config says what a node is. ID, Dir and Listener must be set.
type Config struct {
	ID        string
	Dir       string
	Listener  net.Listener // of nodes and clients; the node closes it
	Advertise string       // address that others reach the Listener by; "": what it listens on

	// Bootstrap makes a new cluster of this node where Dir is empty.
	Bootstrap bool

	// ServerTLS and ClientTLS are for connections that are accepted and made. With them nodes
	// must show certificates that both sides verify; clients need none. nil: no TLS.
	ServerTLS, ClientTLS *tls.Config

	// Heartbeat is how long a follower waits for a leader before it stands for election; the
	// other times of raft follow from it. 0: one second.
	Heartbeat time.Duration

	// SnapshotEntries is how many entries there are between two snapshots, and TrailingEntries
	// how many stay in the log behind one. 0: 8192 and 10240.
	SnapshotEntries, TrailingEntries uint64

	// Now is this node's wall clock; nil: time.Now. See Node.Now.
	Now func() time.Time

	Log    *nvkvraft.Options
	State  *nvkvraft.FSMOptions
	Logger hclog.Logger // nil: nothing is logged
}

func (c *Config) check() error {
	if c.ID == "" || c.Dir == "" || c.Listener == nil {
		return errors.New("node: ID, Dir and Listener must be set")
	}
	if (c.ServerTLS == nil) != (c.ClientTLS == nil) {
		return errors.New("node: TLS for one direction only")
	}
	if c.Advertise == "" {
		c.Advertise = c.Listener.Addr().String()
	}
	if host, _, err := net.SplitHostPort(c.Advertise); err != nil {
		return fmt.Errorf("node: address for others: %w", err)
	} else if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
		return fmt.Errorf("node: others cannot reach %s: an address to advertise must be set", c.Advertise)
	}
	if c.Heartbeat <= 0 {
		c.Heartbeat = time.Second
	}
	if c.SnapshotEntries == 0 {
		c.SnapshotEntries = 8192
	}
	if c.TrailingEntries == 0 {
		c.TrailingEntries = 10240
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Logger == nil {
		c.Logger = hclog.New(&hclog.LoggerOptions{Output: io.Discard})
	}
	return nil
}

// raft returns raft's configuration.
func (c *Config) raft() *raft.Config {
	r := raft.DefaultConfig()
	r.LocalID = raft.ServerID(c.ID)
	r.HeartbeatTimeout, r.ElectionTimeout = c.Heartbeat, c.Heartbeat
	r.LeaderLeaseTimeout = c.Heartbeat / 2
	r.CommitTimeout = min(r.CommitTimeout, c.Heartbeat/10)
	r.SnapshotThreshold, r.TrailingLogs = c.SnapshotEntries, c.TrailingEntries
	r.SnapshotInterval = 5 * time.Second
	r.MaxAppendEntries = 256
	r.BatchApplyCh = true
	r.NoLegacyTelemetry = true
	r.ShutdownOnRemove = false
	r.Logger = c.Logger
	return r
}
