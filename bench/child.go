package bench

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"sync"
	"syscall"
	"time"
)

// Child is the main function of a session's process. It reads a Job from in, carries it out, and
// writes one JSON object per line to out.
func Child(ctx context.Context, in io.Reader, out io.Writer) error {
	var mu sync.Mutex // guards w: progress comes from another goroutine
	w := json.NewEncoder(out)
	emit := func(e event) {
		mu.Lock()
		defer mu.Unlock()
		w.Encode(e) // if the parent is gone, this process is killed
	}
	var job Job
	err := json.NewDecoder(in).Decode(&job)
	if err == nil {
		err = job.run(ctx, emit)
	}
	if err != nil {
		emit(event{Error: err.Error()})
		return err
	}
	emit(event{Done: true})
	return nil
}

// run carries the job out.
func (j *Job) run(ctx context.Context, emit func(event)) error {
	switch {
	case j.Floor:
		return runFloors(ctx, j, emit)
	case j.Map != nil:
		return runMap(ctx, j, emit)
	case j.Stall != nil:
		return runStall(ctx, j, emit)
	}
	return runJob(ctx, j, emit)
}

// child is the parent's view of a session's process.
type child struct {
	cmd    *exec.Cmd
	events *json.Decoder
	errors head
}

// startChild starts a process that carries out job. The end of ctx kills it. Its standard error
// goes to stderr, if that is not nil.
func startChild(ctx context.Context, command []string, job *Job, stderr io.Writer) (*child, error) {
	c := &child{cmd: exec.CommandContext(ctx, command[0], command[1:]...)}
	c.cmd.SysProcAttr = dieWithParent()
	c.cmd.Stderr = &c.errors
	if stderr != nil {
		c.cmd.Stderr = io.MultiWriter(&c.errors, stderr)
	}
	c.cmd.WaitDelay = 5 * time.Second
	in, err := c.cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	c.events = json.NewDecoder(bufio.NewReader(out))
	if err := c.cmd.Start(); err != nil {
		return nil, fmt.Errorf("bench: start a session: %w", err)
	}
	// EPIPE says that the process has ended already. wait finds out how, and its error is more
	// useful.
	err = json.NewEncoder(in).Encode(job)
	if err = errors.Join(err, in.Close()); err != nil && !errors.Is(err, syscall.EPIPE) {
		c.kill()
		return nil, fmt.Errorf("bench: tell a session its job: %w", err)
	}
	return c, nil
}

// wait passes every event to handle and returns when the process has ended.
func (c *child) wait(handle func(event)) error {
	var failure error
	done := false
	for {
		var e event
		if err := c.events.Decode(&e); err != nil {
			break // the process has ended; Wait says how
		}
		if e.Error != "" {
			failure = errors.New(e.Error)
		}
		done = done || e.Done
		handle(e)
	}
	err := c.cmd.Wait()
	switch {
	case failure != nil:
		return failure
	case err != nil:
		return fmt.Errorf("bench: session ended with %w%s", err, c.errors.quoted())
	case !done:
		return fmt.Errorf("bench: session ended before its job was done%s", c.errors.quoted())
	}
	return nil
}

// kill ends the process at once, as kill -9 does.
func (c *child) kill() {
	c.cmd.Process.Kill()
	c.cmd.Wait()
}

// head keeps the beginning of its input: a panic prints its cause first, then the stack.
type head struct{ text []byte }

const headBytes = 400

func (h *head) Write(p []byte) (int, error) {
	h.text = append(h.text, p[:min(len(p), headBytes-len(h.text))]...)
	return len(p), nil
}

func (h *head) quoted() string {
	if len(h.text) == 0 {
		return ""
	}
	return fmt.Sprintf(": %s", bytes.TrimSpace(h.text))
}
