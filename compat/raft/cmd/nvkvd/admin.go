package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"text/tabwriter"
	"time"

	"nvkv/compat/raft/client"
)

// remote holds the flags of commands that call a cluster.
type remote struct {
	security
	nodes string
	wait  time.Duration
}

// parse reads the flags and returns a client and a context.
func (r *remote) parse(ctx context.Context, c *call) (*client.Client, context.Context, context.CancelFunc, error) {
	c.flags.StringVar(&r.nodes, "nodes", "127.0.0.1:7700", "nodes of the cluster, `address,address`")
	c.flags.DurationVar(&r.wait, "wait", 30*time.Second, "how long to try")
	r.security.flags(c.flags)
	if err := c.parse(); err != nil {
		return nil, nil, nil, err
	}
	o, err := r.options()
	if err != nil {
		return nil, nil, nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, r.wait)
	return client.New(r.list(), o), ctx, cancel, nil
}

func (r *remote) list() []string { return strings.Split(r.nodes, ",") }

func (r *remote) options() (o client.Options, err error) {
	tokens, err := r.tokens()
	if err == nil && len(tokens) > 0 {
		o.Token = tokens[0].Secret
	}
	if err == nil {
		o.TLS, err = r.clientTLS()
	}
	return o, err
}

func status(ctx context.Context, c *call) error {
	var r remote
	cl, ctx, cancel, err := r.parse(ctx, c)
	if err != nil {
		return err
	}
	defer cancel()
	t := tabwriter.NewWriter(c.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "address\tid\tstate\tterm\tlast\tcommitted\tapplied\tmembers")
	var failed error
	for _, a := range r.list() {
		s, err := cl.Status(ctx, a)
		if err == nil && s.Error != "" {
			err = errors.New(s.Error)
		}
		if err != nil {
			failed = errors.Join(failed, fmt.Errorf("%s: %w", a, err))
			continue
		}
		var members []string
		for _, m := range s.Members {
			members = append(members, m.ID)
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%d\t%d\t%d\t%d\t%s\n", a, s.ID, s.State, s.Term, s.Last, s.Commit, s.Applied, strings.Join(members, " "))
	}
	return errors.Join(t.Flush(), failed)
}

func join(ctx context.Context, c *call) error {
	id := c.flags.String("id", "", "`name` of the node")
	address := c.flags.String("address", "", "`address` that others reach it by")
	return member(ctx, c, id, func(ctx context.Context, cl *client.Client, _ *remote) error { return cl.Join(ctx, *id, *address) })
}

func remove(ctx context.Context, c *call) error {
	id := c.flags.String("id", "", "`name` of the node")
	return member(ctx, c, id, func(ctx context.Context, cl *client.Client, _ *remote) error { return cl.Remove(ctx, *id) })
}

func transfer(ctx context.Context, c *call) error {
	id := c.flags.String("id", "", "`name` of the node that is to lead; default: any")
	return member(ctx, c, nil, func(ctx context.Context, cl *client.Client, _ *remote) error { return cl.Transfer(ctx, *id) })
}

func leave(ctx context.Context, c *call) error {
	id := c.flags.String("id", "", "`name` of the node")
	return member(ctx, c, id, func(ctx context.Context, cl *client.Client, r *remote) error {
		for _, a := range r.list() {
			if s, err := cl.Status(ctx, a); err == nil && s.Leader == *id && len(s.Members) > 1 {
				if err := cl.Transfer(ctx, ""); err != nil {
					return err
				}
				break
			}
		}
		return cl.Remove(ctx, *id)
	})
}

func member(ctx context.Context, c *call, id *string, fn func(context.Context, *client.Client, *remote) error) error {
	var r remote
	cl, ctx, cancel, err := r.parse(ctx, c)
	if err != nil {
		return err
	}
	defer cancel()
	if id != nil && *id == "" {
		fmt.Fprintf(c.log, "%s: --id must be set\n", c.flags.Name())
		return errUsage
	}
	return fn(ctx, cl, &r)
}

// backup and restore stream, and so call the leader themselves.
func backup(ctx context.Context, c *call) error {
	return stream(ctx, c, "GET", "/v1/backup", nil)
}

func restore(ctx context.Context, c *call) error {
	return stream(ctx, c, "POST", "/v1/restore", c.in)
}

func stream(ctx context.Context, c *call, method, path string, body io.Reader) error {
	var r remote
	cl, wait, cancel, err := r.parse(ctx, c)
	if err != nil {
		return err
	}
	defer cancel()
	o, err := r.options()
	if err != nil {
		return err
	}
	leader := ""
	for leader == "" {
		for _, a := range r.list() {
			if s, err := cl.Status(wait, a); err == nil && s.Address != "" {
				leader = s.Address
			}
		}
		select {
		case <-wait.Done():
			return errors.New("no node says who leads")
		case <-time.After(50 * time.Millisecond):
		}
	}
	scheme := "http://"
	if o.TLS != nil {
		scheme = "https://"
	}
	q, err := http.NewRequestWithContext(ctx, method, scheme+leader+path, body)
	if err != nil {
		return err
	}
	if o.Token != "" {
		q.Header.Set("Authorization", "Bearer "+o.Token)
	}
	res, err := (&http.Client{Transport: &http.Transport{TLSClientConfig: o.TLS}}).Do(q)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		b, _ := io.ReadAll(io.LimitReader(res.Body, 1000))
		return fmt.Errorf("%s: %s: %s", leader, res.Status, strings.TrimSpace(string(b)))
	}
	if method == "GET" {
		_, err = io.Copy(c.out, res.Body)
	}
	return err
}
