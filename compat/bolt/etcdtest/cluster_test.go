package etcdtest

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"go.etcd.io/bbolt"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/etcdutl/v3/snapshot"
	"go.uber.org/zap"
)

// hang is how long a test waits for what must come.
const hang = 5 * time.Minute

// cluster is what the steps of a test share.
type cluster struct {
	*testing.T
	ctx     context.Context
	members []*member
	client  *clientv3.Client
	want    map[string]string // keys and values that were acknowledged
}

// startCluster starts members and waits until they are ready.
func startCluster(t *testing.T, members ...*member) *cluster {
	ctx, cancel := context.WithTimeout(context.Background(), hang)
	t.Cleanup(cancel)
	c := &cluster{T: t, ctx: ctx, members: members, want: map[string]string{}}
	var at []string
	for _, m := range members {
		m.start(t)
		at = append(at, m.Client)
	}
	for _, m := range members {
		m.ready(t)
	}
	c.client = c.connect(at...)
	return c
}

// connect returns a client of the members at some addresses.
func (c *cluster) connect(at ...string) *clientv3.Client {
	client, err := clientv3.New(clientv3.Config{Endpoints: at, Logger: zap.NewNop()})
	must(c.T, err)
	c.Cleanup(func() { _ = client.Close() })
	return client
}

// retry does something that may be done twice until it succeeds: a member may be away, or
// an election under way.
func (c *cluster) retry(what string, do func() error) {
	c.Helper()
	for {
		err := do()
		if err == nil {
			return
		}
		select {
		case <-c.ctx.Done():
			c.Fatalf("%s: %v", what, err)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// unless returns err, and nil where that is what an earlier try explains.
func unless(err error, text string) error {
	if err != nil && err.Error() == text {
		return nil
	}
	return err
}

// revision returns the cluster's.
func (c *cluster) revision() (revision int64) {
	c.Helper()
	c.retry("get", func() error {
		r, err := c.client.Get(c.ctx, "k/")
		if err == nil {
			revision = r.Header.Revision
		}
		return err
	})
	return revision
}

func (c *cluster) put(key, value string, o ...clientv3.OpOption) {
	c.Helper()
	c.retry("put "+key, func() error {
		_, err := c.client.Put(c.ctx, key, value, o...)
		return err
	})
	c.want[key] = value
}

func (c *cluster) puts(from, to int) {
	c.Helper()
	for i := from; i < to; i++ {
		c.put(fmt.Sprintf("k/%04d", i%150), fmt.Sprint("value ", i))
	}
}

// holds compares what a member has with what was acknowledged.
func (c *cluster) holds(m *member) {
	c.Helper()
	client := c.connect(m.Client)
	var got *clientv3.GetResponse
	c.retry("get", func() (err error) {
		got, err = client.Get(c.ctx, "", clientv3.WithPrefix())
		return err
	})
	if len(got.Kvs) != len(c.want) {
		c.Errorf("%s has %d keys, want %d", m.Name, len(got.Kvs), len(c.want))
	}
	for _, kv := range got.Kvs {
		if want, ok := c.want[string(kv.Key)]; !ok || want != string(kv.Value) {
			c.Errorf("%s: %s is %q, want %q (%v)", m.Name, kv.Key, kv.Value, want, ok)
		}
	}
}

// agree waits until every member has come to the same revision, and compares their hashes.
func (c *cluster) agree() {
	c.Helper()
	revision := c.revision()
	var first uint32
	for i, m := range c.members {
		var hash *clientv3.HashKVResponse
		c.retry("hash of "+m.Name, func() (err error) {
			s, err := c.client.Status(c.ctx, m.Client)
			if err == nil && s.Header.Revision < revision {
				err = fmt.Errorf("revision %d, to be %d", s.Header.Revision, revision)
			}
			if err == nil {
				hash, err = c.client.HashKV(c.ctx, m.Client, revision)
			}
			return err
		})
		if i == 0 {
			first = hash.Hash
		}
		if hash.Hash != first {
			c.Errorf("%s has the hash %08x, %s %08x", m.Name, hash.Hash, c.members[0].Name, first)
		}
		c.holds(m)
	}
}

// watch counts the events of keys, and reports those that are not next.
func (c *cluster) watch() {
	const n = 40
	ctx, cancel := context.WithCancel(c.ctx)
	defer cancel()
	events := c.client.Watch(ctx, "w", clientv3.WithRev(c.revision()+1), clientv3.WithPrevKV())
	for i := range n {
		c.put("w", fmt.Sprint(i))
	}
	c.retry("delete", func() error { _, err := c.client.Delete(c.ctx, "w"); return err })
	delete(c.want, "w")
	last := -1
	for response := range events {
		must(c.T, response.Err())
		for _, e := range response.Events {
			if e.Type == clientv3.EventTypeDelete {
				if last != n-1 || string(e.PrevKv.Value) != fmt.Sprint(n-1) {
					c.Errorf("deleted after %d, when it was %q", last, e.PrevKv.Value)
				}
				return
			}
			// A put that was tried again comes twice.
			if v := string(e.Kv.Value); v == fmt.Sprint(last+1) {
				last++
			} else if v != fmt.Sprint(last) {
				c.Errorf("%q after %d", v, last)
			}
		}
	}
	c.Error("the watch ended")
}

// leases revokes one, and lets one expire.
func (c *cluster) leases() {
	lease := func(key string, seconds int64) (id clientv3.LeaseID) {
		c.retry("lease", func() error { // from the start, if it expired before the put
			r, err := c.client.Grant(c.ctx, seconds)
			if err == nil {
				id = r.ID
				_, err = c.client.Put(c.ctx, key, "1", clientv3.WithLease(id))
			}
			return err
		})
		return id
	}
	long := lease("l/long", 3600)
	lease("l/short", 1)
	var kept *clientv3.LeaseKeepAliveResponse
	c.retry("keep alive", func() (err error) { kept, err = c.client.KeepAliveOnce(c.ctx, long); return err })
	var left *clientv3.LeaseTimeToLiveResponse
	c.retry("time to live", func() (err error) {
		left, err = c.client.TimeToLive(c.ctx, long, clientv3.WithAttachedKeys())
		return err
	})
	if kept.TTL != 3600 || len(left.Keys) != 1 || string(left.Keys[0]) != "l/long" {
		c.Errorf("kept for %d s, with %q", kept.TTL, left.Keys)
	}
	c.retry("revoke", func() error {
		_, err := c.client.Revoke(c.ctx, long)
		return unless(err, "etcdserver: requested lease not found") // an earlier try did it
	})
	c.retry("wait for expiry", func() error {
		r, err := c.client.Get(c.ctx, "l/", clientv3.WithPrefix())
		if err == nil && r.Count > 0 {
			err = fmt.Errorf("%s is there", r.Kvs[0].Key)
		}
		return err
	})
}

// compact drops old revisions, and defragments every member.
func (c *cluster) compact() {
	revision := c.revision()
	c.retry("compact", func() error {
		_, err := c.client.Compact(c.ctx, revision, clientv3.WithCompactPhysical())
		return unless(err, "etcdserver: mvcc: required revision has been compacted")
	})
	for _, m := range c.members {
		c.retry("defragment "+m.Name, func() error { _, err := c.client.Defragment(c.ctx, m.Client); return err })
		var s *clientv3.StatusResponse
		c.retry("status of "+m.Name, func() (err error) { s, err = c.client.Status(c.ctx, m.Client); return err })
		if s.DbSizeInUse > s.DbSize || s.DbSizeInUse == 0 {
			c.Errorf("%s uses %d of %d bytes", m.Name, s.DbSizeInUse, s.DbSize)
		}
	}
}

// save writes a snapshot of a member to a file.
func (c *cluster) save(m *member) (file string) {
	file = filepath.Join(c.TempDir(), "snapshot")
	c.retry("snapshot", func() error {
		in, err := c.connect(m.Client).Snapshot(c.ctx)
		if err != nil {
			return err
		}
		defer in.Close()
		out, err := os.Create(file)
		if err != nil {
			return err
		}
		if _, err := io.Copy(out, in); err != nil {
			out.Close()
			return err
		}
		return out.Close()
	})
	return file
}

// audit checks the database of a member that has stopped.
func audit(t *testing.T, m *member) {
	t.Helper()
	db, err := bbolt.Open(m.database(), 0o600, nil)
	must(t, err)
	defer db.Close()
	must(t, db.View(func(tx *bbolt.Tx) error {
		for err := range tx.Check() {
			t.Errorf("%s: %v", m.Name, err)
		}
		return nil
	}))
}

// TestCluster: three servers on nvkv do what etcd promises, while one of them is killed and
// comes back, and a snapshot of one becomes a cluster of its own.
func TestCluster(t *testing.T) {
	c := startCluster(t, newMembers(t, "one", "two", "three")...)
	c.puts(0, 100)
	c.watch()
	c.leases()
	c.agree()

	// The one that was killed is behind by more than the others' logs hold, so it gets a
	// snapshot of one of them.
	victim := c.members[1]
	killed := make(chan error)
	go func() { killed <- victim.kill() }()
	c.puts(100, 200)
	must(t, <-killed)
	c.puts(200, 400)
	victim.start(t)
	victim.ready(t)
	c.agree()
	if log, err := os.ReadFile(victim.log()); err != nil || !bytes.Contains(log, []byte("applied snapshot")) {
		t.Errorf("it was sent no snapshot (%v)", err)
	}

	c.compact()
	c.puts(400, 420)
	c.agree()

	file := c.save(c.members[2])
	for _, m := range c.members {
		m.stop(t)
		audit(t, m)
	}

	single := newMembers(t, "single")[0]
	manager := snapshot.NewV3(zap.NewNop())
	status, err := manager.Status(file)
	must(t, err)
	if status.TotalKey < len(c.want) {
		t.Errorf("the snapshot has %d keys, want %d or more", status.TotalKey, len(c.want))
	}
	must(t, manager.Restore(snapshot.RestoreConfig{
		SnapshotPath: file, Name: single.Name, OutputDataDir: single.Dir, PeerURLs: []string{"http://" + single.Peer},
		InitialCluster: single.Cluster, InitialClusterToken: "etcd-cluster",
	}))
	restored := startCluster(t, single)
	restored.want = c.want
	restored.holds(single)
	restored.puts(0, 10)
	restored.agree()
	single.stop(t)
	audit(t, single)
}
