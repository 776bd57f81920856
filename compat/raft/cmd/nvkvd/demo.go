package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"nvkv/compat/raft/client"
)

const (
	demoNodes   = 3
	demoClients = 8
	demoLoad    = 3 * time.Second // before the kill, and after it
)

// demoLimit is more in tests, which may run on a machine that is very busy.
var demoLimit = 28 * time.Second

func demo(ctx context.Context, c *call) error {
	dir := c.flags.String("dir", "", "`directory` for the nodes' files, which are removed; default: a temporary one")
	if err := c.parse(); err != nil {
		return err
	}
	work, err := os.MkdirTemp(*dir, "nvkvd-demo-")
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, demoLimit)
	defer cancel()
	d := &demonstration{dir: work, out: c.out}
	err = d.run(ctx)
	d.stop()
	return errors.Join(err, os.RemoveAll(work))
}

// process is a node in a process of its own. It ends when its standard input does, so none
// outlives this one.
type process struct {
	cmd     *exec.Cmd
	in      io.Closer
	address string
	log     *os.File
}

type demonstration struct {
	dir   string
	out   io.Writer
	nodes [demoNodes]*process
}

func (d *demonstration) start(ctx context.Context, i int) error {
	exe, err := os.Executable()
	if err != nil {
		return err
	}
	id := fmt.Sprintf("n%d", i+1)
	listen := "127.0.0.1:0"
	if old := d.nodes[i]; old != nil {
		listen = old.address
	}
	args := []string{"serve", "--id", id, "--dir", filepath.Join(d.dir, id), "--listen", listen, "--heartbeat", "500ms", "--until-eof"}
	if i == 0 {
		args = append(args, "--bootstrap")
	} else {
		args = append(args, "--join", d.nodes[0].address)
	}
	p := &process{cmd: exec.Command(exe, args...)}
	p.cmd.Env = append(os.Environ(), demoVariable+"=1")
	if p.in, err = p.cmd.StdinPipe(); err != nil {
		return err
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if p.log, err = os.OpenFile(filepath.Join(d.dir, id+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600); err != nil {
		return err
	}
	p.cmd.Stderr = p.log
	if err := p.cmd.Start(); err != nil {
		return err
	}
	d.nodes[i] = p
	line := make([]byte, 200)
	n, err := out.Read(line)
	at := strings.LastIndex(string(line[:n]), " on ")
	if err != nil || at < 0 {
		b, _ := os.ReadFile(p.log.Name())
		return fmt.Errorf("node %s did not start: %v %s", id, err, b)
	}
	p.address = strings.TrimSpace(string(line[at+4 : n]))
	return ctx.Err()
}

// demoVariable has a test's binary be nvkvd.
const demoVariable = "NVKVD_DEMO_NODE"

func (p *process) end() {
	_ = p.in.Close()
	_ = p.cmd.Wait()
	_ = p.log.Close()
}

func (d *demonstration) stop() {
	var wg sync.WaitGroup
	for _, p := range d.nodes {
		if p != nil {
			wg.Go(p.end)
		}
	}
	wg.Wait()
}

func (d *demonstration) addresses() (a []string) {
	for _, p := range d.nodes {
		a = append(a, p.address)
	}
	return a
}

// writer is a client that counts up: it puts numbers under a key of its own.
type writer struct {
	key     []byte
	last    int // acknowledged
	unknown int // put, and no answer
	longest time.Duration
	waited  int // puts that took longer than 100 ms
}

func (w *writer) run(ctx context.Context, cl *client.Client) error {
	for n := 1; ; n++ {
		begun := time.Now()
		err := cl.Put(ctx, w.key, fmt.Append(nil, n), 0)
		took := time.Since(begun)
		switch {
		case ctx.Err() != nil:
			if err != nil {
				w.unknown = n
			} else {
				w.last = n
			}
			return nil
		case err != nil:
			return fmt.Errorf("%s: %w", w.key, err)
		}
		w.last, w.longest = n, max(w.longest, took)
		if took > 100*time.Millisecond {
			w.waited++
		}
	}
}

func (d *demonstration) run(ctx context.Context) error {
	say := func(format string, args ...any) { fmt.Fprintf(d.out, format+"\n", args...) }
	say("Three nodes, each a process with files of its own below %s:", d.dir)
	for i := range d.nodes {
		if err := d.start(ctx, i); err != nil {
			return err
		}
		say("  n%d at %s, process %d", i+1, d.nodes[i].address, d.nodes[i].cmd.Process.Pid)
	}
	cl := client.New(d.addresses(), client.Options{})
	defer cl.Close()
	leader, err := d.leader(ctx, cl, -1)
	if err != nil {
		return err
	}
	say("n%d leads. %d clients put numbers, each under a key of its own.", leader+1, demoClients)
	load, end := context.WithCancel(ctx)
	defer end()
	writers := make([]writer, demoClients)
	errs := make([]error, demoClients)
	var wg sync.WaitGroup
	for i := range writers {
		writers[i].key = fmt.Append(nil, "client", i)
		wg.Go(func() { errs[i] = writers[i].run(load, cl) })
	}
	begun := time.Now()
	sleep(ctx, demoLoad)
	if err := d.nodes[leader].cmd.Process.Kill(); err != nil {
		return err
	}
	say("%.1f s: the leader is killed (SIGKILL).", time.Since(begun).Seconds())
	killed := time.Now()
	next, err := d.leader(ctx, cl, leader)
	if err != nil {
		return err
	}
	say("%.1f s: n%d leads.", time.Since(begun).Seconds(), next+1)
	sleep(ctx, demoLoad-time.Since(killed))
	d.nodes[leader].end()
	if err := d.start(ctx, leader); err != nil {
		return err
	}
	say("%.1f s: n%d is back, with its files, and catches up.", time.Since(begun).Seconds(), leader+1)
	sleep(ctx, demoLoad/2)
	took := time.Since(begun)
	end()
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return err
	}
	return d.report(ctx, cl, writers, took)
}

// report compares what is there with what was acknowledged.
func (d *demonstration) report(ctx context.Context, cl *client.Client, writers []writer, took time.Duration) error {
	var puts, waited int
	var longest time.Duration
	for _, w := range writers {
		v, err := cl.Get(ctx, w.key)
		if err != nil {
			return fmt.Errorf("%s: %w", w.key, err)
		}
		var n int
		if _, err := fmt.Sscan(string(v), &n); err != nil || n != w.last && n != w.unknown {
			return fmt.Errorf("%s is %s, but %d was acknowledged last", w.key, v, w.last)
		}
		puts, waited, longest = puts+w.last, waited+w.waited, max(longest, w.longest)
	}
	fmt.Fprintf(d.out, `The clients saw:
  %d puts in %.1f s, %.0f a second; every one was acknowledged, none failed
  %d of them took longer than 100 ms, the longest %.2f s: that was the election
  the last number that each client was acknowledged is there: nothing was lost
All processes are ended and their files removed.
`, puts, took.Seconds(), float64(puts)/took.Seconds(), waited, longest.Seconds())
	return nil
}

// leader waits until a node other than not leads.
func (d *demonstration) leader(ctx context.Context, cl *client.Client, not int) (int, error) {
	for {
		for i, p := range d.nodes {
			if i == not {
				continue
			}
			if s, err := cl.Status(ctx, p.address); err == nil && s.State == "Leader" {
				return i, nil
			}
		}
		if sleep(ctx, 20*time.Millisecond); ctx.Err() != nil {
			return 0, fmt.Errorf("no node leads: %w", ctx.Err())
		}
	}
}

func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
