package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"nvkv/compat/raft/client"
	"nvkv/internal/effort"
)

// clockVariable names a file with the seconds that a node's clock is off.
const clockVariable = "NVKVD_CLOCK_FILE"

func jumpingClock() time.Time {
	now := time.Now()
	if b, err := os.ReadFile(os.Getenv(clockVariable)); err == nil {
		if n, err := strconv.Atoi(strings.TrimSpace(string(b))); err == nil {
			now = now.Add(time.Duration(n) * time.Second)
		}
	}
	return now
}

// daemon is a node in a process of its own behind a proxy.
type daemon struct {
	id, dir, host, listen string
	proxy                 *proxy
	cmd                   *exec.Cmd
	in                    io.Closer
	log                   *bytes.Buffer
}

type cluster struct {
	t     *testing.T
	nodes [3]*daemon
	c     *client.Client
}

func newCluster(t *testing.T) *cluster {
	c := &cluster{t: t}
	dir := effort.Dir(t)
	for i := range c.nodes {
		host := fmt.Sprintf("127.0.%d.%d", 77, i+11)
		l, err := net.Listen("tcp", host+":0")
		if err != nil {
			effort.NotTested(t, "no addresses to tell nodes apart: %v", err)
		}
		d := &daemon{id: fmt.Sprintf("n%d", i), host: host, listen: l.Addr().String()}
		d.dir = filepath.Join(dir, d.id)
		d.proxy = newProxy(t, d.listen)
		c.nodes[i] = d
		_ = l.Close()
	}
	t.Cleanup(func() {
		for _, d := range c.nodes {
			c.kill(d)
			if t.Failed() && d.log != nil {
				b := d.log.Bytes()
				t.Logf("%s said last:\n%s", d.id, b[max(0, len(b)-3000):])
			}
		}
	})
	c.c = client.New(c.addresses(), client.Options{Attempt: 2 * time.Second})
	c.start(c.nodes[0], "--bootstrap")
	for _, d := range c.nodes[1:] {
		c.start(d, "--join", c.nodes[0].proxy.address())
	}
	c.until("joining", func() bool {
		s, err := c.c.Status(t.Context(), c.nodes[0].proxy.address())
		return err == nil && len(s.Members) == len(c.nodes)
	})
	return c
}

func (c *cluster) addresses() (a []string) {
	for _, d := range c.nodes {
		a = append(a, d.proxy.address())
	}
	return a
}

// start starts a node. The address may still be taken for a moment by a connection of before.
func (c *cluster) start(d *daemon, more ...string) {
	c.t.Helper()
	c.until("start of "+d.id, func() bool { return c.launch(d, more...) })
}

// launch starts a process once. It reports whether the process serves, and not whether it would
// with a second try: it may end at once where its state has no room.
func (c *cluster) launch(d *daemon, more ...string) bool {
	c.t.Helper()
	args := append([]string{
		"serve", "--id", d.id, "--dir", d.dir, "--listen", d.listen, "--advertise", d.proxy.address(), "--heartbeat", "400ms",
		"--snapshot-entries", "200", "--trailing-entries", "100", "--until-eof",
	}, more...)
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = append(os.Environ(), demoVariable+"=1", clockVariable+"="+d.dir+".clock")
	if d.log == nil {
		d.log = new(bytes.Buffer)
	}
	cmd.Stderr = d.log
	in, err := cmd.StdinPipe()
	if err != nil {
		c.t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		c.t.Fatal(err)
	}
	d.cmd, d.in = cmd, in
	if n, _ := out.Read(make([]byte, 200)); n == 0 {
		c.kill(d)
		return false
	}
	return true
}

func (c *cluster) kill(d *daemon) {
	if d.cmd != nil {
		_ = d.cmd.Process.Kill()
		_ = d.in.Close()
		_ = d.cmd.Wait()
		d.cmd = nil
	}
}

// until waits for something, for as long as a very slow machine takes.
func (c *cluster) until(what string, fn func() bool) {
	c.t.Helper()
	for begun := time.Now(); !fn(); time.Sleep(10 * time.Millisecond) {
		if time.Since(begun) > effort.Hang {
			c.t.Fatalf("%s: does not come", what)
		}
	}
}

// work waits until the clients have done some more operations.
func (c *cluster) work(count *atomic.Int64, n int64) {
	c.t.Helper()
	upTo := count.Load() + n
	c.until("work of the clients", func() bool { return count.Load() >= upTo })
}

// leader returns the node that leads by what it says itself.
func (c *cluster) leader() (d *daemon) {
	c.t.Helper()
	c.until("a leader", func() bool {
		for _, d = range c.nodes {
			ctx, cancel := context.WithTimeout(c.t.Context(), 2*time.Second)
			s, err := c.c.Status(ctx, d.proxy.address())
			cancel()
			if err == nil && s.State == "Leader" {
				return true
			}
		}
		return false
	})
	return d
}

// agree waits until all nodes applied the same: none is stuck.
func (c *cluster) agree() {
	c.t.Helper()
	var said string
	for begun := time.Now(); ; time.Sleep(20 * time.Millisecond) {
		var at [3]uint64
		same, last := true, uint64(0)
		for i, d := range c.nodes {
			s, err := c.c.Status(c.t.Context(), d.proxy.address())
			same = same && err == nil && s.Error == "" && s.Leader != ""
			at[i], last = s.Applied, s.Commit
		}
		if same && at[0] == at[1] && at[1] == at[2] && last > 0 {
			return
		}
		if said = fmt.Sprint(at); time.Since(begun) > effort.Hang {
			c.t.Fatalf("the nodes do not come to the same state: %s", said)
		}
	}
}

type fault struct {
	name     string
	do, undo func()
}

// faults returns one fault of each kind.
func (c *cluster) faults(r *rand.Rand) []fault {
	var d *daemon
	other := func() *daemon { return c.nodes[r.IntN(3)] }
	cut := func(on bool) func() {
		return func() {
			if on {
				d = c.leader()
			}
			for _, o := range c.nodes {
				if o != d {
					o.proxy.block(d.host, on)
					d.proxy.block(o.host, on)
				}
			}
		}
	}
	return []fault{
		{"the leader is killed", func() { d = c.leader(); c.kill(d) }, func() { c.start(d) }},
		{"all are killed at once", func() {
			for _, d := range c.nodes {
				c.kill(d)
			}
			for _, d := range c.nodes {
				c.start(d)
			}
		}, func() {}},
		{"the leader is cut off from the others, not from clients", cut(true), cut(false)},
		{"a node loses its files and joins again", func() {
			d = other()
			c.kill(d)
			if err := os.RemoveAll(d.dir); err != nil {
				c.t.Fatal(err)
			}
		}, func() {
			var rest []string
			for _, o := range c.nodes {
				if o != d {
					rest = append(rest, o.proxy.address())
				}
			}
			c.start(d, "--join", strings.Join(rest, ","))
		}},
		{"a node has no room", func() {
			d = other()
			c.kill(d)
			c.launch(d, "--max-bytes", "1048576") // what the cluster already holds may not fit
			c.fill()
		}, func() { c.kill(d); c.start(d) }},
		{"the leader's clock jumps by two days, and back", func() { d = c.leader(); c.clock(d, 2*24*3600) }, func() { c.clock(d, -3600) }},
	}
}

func (c *cluster) clock(d *daemon, seconds int) {
	if err := os.WriteFile(d.dir+".clock", fmt.Append(nil, seconds), 0o600); err != nil {
		c.t.Fatal(err)
	}
}

// fill puts more than the node without room can take.
func (c *cluster) fill() {
	for i := range 12 {
		ctx, cancel := context.WithTimeout(c.t.Context(), effort.Hang)
		err := c.c.Put(ctx, fmt.Append(nil, "fill", i), make([]byte, 100<<10), 0)
		if err != nil {
			c.t.Errorf("fill: %v", err)
		}
		cancel()
	}
}
