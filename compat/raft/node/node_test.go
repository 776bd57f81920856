package node

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	nvkvraft "nvkv/compat/raft"
	"nvkv/internal/effort"
	"nvkv/kv"
)

// heartbeat is long, so that a busy machine does not look like a dead leader.
const heartbeat = 500 * time.Millisecond

type trio struct {
	t     *testing.T
	nodes [3]*Node
	dirs  [3]string
	addrs [3]string
}

func id(i int) string { return fmt.Sprintf("n%d", i) }

// open opens node i, on the address that it had before.
func (c *trio) open(i int, change func(*Config)) {
	c.t.Helper()
	at := "127.0.0.1:0"
	if c.addrs[i] != "" {
		at = c.addrs[i]
	}
	var l net.Listener
	c.until("the address is free", func() (err error) { l, err = net.Listen("tcp", at); return err })
	c.addrs[i] = l.Addr().String()
	config := Config{ID: id(i), Dir: c.dirs[i], Listener: l, Bootstrap: i == 0, Heartbeat: heartbeat}
	if change != nil {
		change(&config)
	}
	n, err := Open(config)
	if err != nil {
		c.t.Fatal(err)
	}
	c.nodes[i] = n
}

// until tries again until fn returns nil.
func (c *trio) until(what string, fn func() error) {
	c.t.Helper()
	var err error
	for begun := time.Now(); time.Since(begun) < effort.Hang; time.Sleep(10 * time.Millisecond) {
		if err = fn(); err == nil {
			return
		}
	}
	c.t.Fatalf("%s: %v", what, err)
}

// leader runs fn with whichever node leads, until it returns nil.
func (c *trio) leader(what string, fn func(n *Node) error) {
	c.t.Helper()
	c.until(what, func() error {
		err := errors.New("no node leads")
		for _, n := range c.nodes {
			if n != nil && n.Status().State == "Leader" {
				if err = fn(n); err == nil {
					return nil
				}
			}
		}
		return err
	})
}

func newTrio(t *testing.T, change func(*Config)) *trio {
	c := &trio{t: t}
	for i := range c.nodes {
		c.dirs[i] = effort.Dir(t)
		c.open(i, change)
	}
	t.Cleanup(func() {
		for _, n := range c.nodes {
			if n != nil {
				_ = n.Close()
			}
		}
	})
	for i := 1; i < 3; i++ {
		c.leader("joining", func(n *Node) error { return n.Join(id(i), c.addrs[i]) })
	}
	return c
}

func putOf(key, value string) nvkvraft.Command {
	return nvkvraft.Command{Do: []nvkvraft.Op{{Kind: nvkvraft.OpPut, Key: []byte(key), Value: []byte(value)}}}
}

func (c *trio) put(key, value string) {
	c.t.Helper()
	c.leader("put", func(n *Node) error { _, err := n.Do(putOf(key, value)); return err })
}

func (c *trio) want(key, value string) {
	c.t.Helper()
	c.leader("get", func(n *Node) error {
		v, _, err := n.Get(c.t.Context(), Linearizable, []byte(key))
		if err == nil && string(v) != value {
			c.t.Fatalf("%s is %q, want %q", key, v, value)
		}
		return err
	})
}

// everywhere waits until each node has a value.
func (c *trio) everywhere(key, value string) {
	c.t.Helper()
	for i, n := range c.nodes {
		c.until("replicating to "+id(i), func() error {
			v, _, err := n.Get(c.t.Context(), Stale, []byte(key))
			if err == nil && string(v) != value {
				err = fmt.Errorf("%s is %q", key, v)
			}
			return err
		})
	}
}

func TestClusterOfThree(t *testing.T) {
	c := newTrio(t, nil)
	c.put("a", "1")
	c.want("a", "1")
	c.everywhere("a", "1")
	for _, n := range c.nodes {
		var not *NotLeaderError
		if n.Status().State == "Leader" {
			continue
		}
		if _, _, err := n.Get(t.Context(), Linearizable, []byte("a")); !errors.As(err, &not) {
			t.Fatalf("a follower answers a linearizable read: %v", err)
		}
	}
	// The leader goes away without a word, and comes back.
	var old int
	c.leader("finding the leader", func(n *Node) error {
		for i := range c.nodes {
			if c.nodes[i] == n {
				old = i
			}
		}
		return nil
	})
	if err := c.nodes[old].Close(); err != nil {
		t.Fatal(err)
	}
	c.nodes[old] = nil
	c.put("a", "2")
	c.want("a", "2")
	c.open(old, nil)
	c.everywhere("a", "2")
	// All go away.
	for i, n := range c.nodes {
		if err := n.Close(); err != nil {
			t.Fatal(err)
		}
		c.nodes[i] = nil
	}
	for i := range c.nodes {
		c.open(i, nil)
	}
	c.want("a", "2")
	c.leader("transfer", func(n *Node) error { return n.Transfer("") })
	c.want("a", "2")
}

// TestClusterReplace wipes a node, which comes back by a snapshot, and restores a backup.
func TestClusterReplace(t *testing.T) {
	few := func(c *Config) { c.SnapshotEntries, c.TrailingEntries = 20, 5 }
	c := newTrio(t, few)
	for i := range 60 {
		c.put(fmt.Sprint("k", i%7), fmt.Sprint(i))
	}
	for _, n := range c.nodes {
		if err := n.Snapshot(); err != nil {
			t.Fatal(err)
		}
	}
	var backup *os.File
	c.leader("backup", func(n *Node) (err error) {
		if backup, err = os.CreateTemp(t.TempDir(), ""); err != nil {
			t.Fatal(err)
		}
		if err = n.Backup(t.Context(), Linearizable, backup); err == nil {
			_, err = backup.Seek(0, 0)
		}
		return err
	})
	defer backup.Close()
	const gone = 1
	c.leader("transfer", func(n *Node) error {
		if n == c.nodes[gone] {
			return errors.Join(errors.New("it leads"), n.Transfer(id(0)))
		}
		return n.Remove(id(gone))
	})
	if err := c.nodes[gone].Close(); err != nil {
		t.Fatal(err)
	}
	c.nodes[gone] = nil
	c.dirs[gone] = effort.Dir(t)
	c.put("k1", "later")
	c.open(gone, few)
	c.leader("joining", func(n *Node) error { return n.Join(id(gone), c.addrs[gone]) })
	c.everywhere("k1", "later")
	if first := c.nodes[gone].Status().First; first < 20 {
		t.Errorf("the node's log begins at %d: it did not come by a snapshot", first)
	}
	c.leader("restore", func(n *Node) error {
		if _, err := backup.Seek(0, 0); err != nil {
			t.Fatal(err)
		}
		return n.Restore(backup)
	})
	c.everywhere("k1", "57")
	c.put("k1", "again")
	c.everywhere("k1", "again")
	for i := range c.nodes { // and after a restart
		if err := c.nodes[i].Close(); err != nil {
			t.Fatal(err)
		}
		c.nodes[i] = nil
		c.open(i, few)
	}
	c.want("k2", "58")
	c.everywhere("k1", "again")
}

// TestClusterFullNode gives one node too little room: it fails and the others go on. With room it
// comes back.
func TestClusterFullNode(t *testing.T) {
	c := newTrio(t, nil)
	const full = 2
	reopen := func(limit int64) {
		if err := c.nodes[full].Close(); err != nil {
			t.Fatal(err)
		}
		c.nodes[full] = nil
		c.open(full, func(config *Config) { config.State = &nvkvraft.FSMOptions{MaxBytes: limit} })
	}
	reopen(2 << 20)
	value := string(make([]byte, 100<<10))
	for i := range 30 {
		c.put(fmt.Sprint("big", i), value)
	}
	c.until("the full node fails", func() error {
		if s := c.nodes[full].Status(); s.Error == "" && s.State != "Failed" {
			return fmt.Errorf("%+v", s)
		}
		return nil
	})
	c.put("a", "1")
	c.want("a", "1")
	reopen(0)
	c.everywhere("a", "1")
	v, _, err := c.nodes[full].Get(context.Background(), Stale, []byte("big29"))
	if err != nil || string(v) != value {
		t.Fatalf("%d bytes, %v", len(v), err)
	}
}

// TestClusterExpiry: a key expires on all nodes by the leader's clock, without another command.
func TestClusterExpiry(t *testing.T) {
	c := newTrio(t, nil)
	c.leader("put", func(n *Node) error {
		return putFor(n, "a", time.Second/2)
	})
	for i, n := range c.nodes {
		c.until("expiry on "+id(i), func() error {
			if _, _, err := n.Get(t.Context(), Stale, []byte("a")); !errors.Is(err, kv.ErrNotFound) {
				return fmt.Errorf("still there: %v", err)
			}
			return nil
		})
	}
}

// putFor puts a key that lives for so long.
func putFor(n *Node, key string, ttl time.Duration) error {
	now, err := n.Now()
	if err != nil {
		return err
	}
	p := putOf(key, "1")
	p.Do[0].Expiry = now.Add(ttl)
	_, err = n.Do(p)
	return err
}

func TestConfigRefuses(t *testing.T) {
	l, err := net.Listen("tcp", "0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if _, err := Open(Config{ID: "a", Dir: filepath.Join(t.TempDir(), "a"), Listener: l}); err == nil {
		t.Fatal("an address that nobody can reach is advertised")
	}
}
