// Package client talks to a cluster of nvkvd: it finds the leader, and it repeats what failed
// where that is safe. A write that is repeated is carried out once.
package client

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"time"

	"nvkv/compat/raft/node"
	"nvkv/compat/raft/server"
)

var (
	// ErrNotFound says that there is no such key.
	ErrNotFound = errors.New("client: key not found")

	// ErrUnknown says that a write may have been carried out, or may be later, or not: the
	// context ended, or the session expired, before an answer came.
	ErrUnknown = errors.New("client: outcome unknown")
)

// Options of New. The zero value means all defaults.
type Options struct {
	Token   string
	TLS     *tls.Config   // nil: plain HTTP
	Attempt time.Duration // how long one attempt may take; 0: five seconds
	Read    node.Consistency
	HTTP    http.RoundTripper // nil: a transport of the client's own
}

// Client is a client of a cluster. It is safe for concurrent use.
type Client struct {
	o      Options
	http   *http.Client
	scheme string

	mu       sync.Mutex
	nodes    []string
	leader   string // "": not known
	next     int    // of nodes, where the leader is not known
	sessions []*session
}

// session is a session with no request under way.
type session struct{ id, request uint64 }

// New returns a client of the cluster that has nodes at these addresses.
func New(nodes []string, o Options) *Client {
	if o.Attempt <= 0 {
		o.Attempt = 5 * time.Second
	}
	c := &Client{o: o, nodes: nodes, scheme: "http"}
	if o.TLS != nil {
		c.scheme = "https"
	}
	t := o.HTTP
	if t == nil {
		t = &http.Transport{TLSClientConfig: o.TLS, MaxIdleConnsPerHost: 256, IdleConnTimeout: time.Minute}
	}
	c.http = &http.Client{Transport: t, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	return c
}

// Close drops the connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// call is a request that may be sent more than once.
type call struct {
	method, path string
	query        url.Values
	body         []byte
	header       http.Header
	node         string // ask this one only
}

// answer is what came of it.
type answer struct {
	code   int
	header http.Header
	body   []byte
	first  bool // it was the first attempt: nothing was sent before
}

// target returns whom to ask.
func (c *Client) target() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.leader != "" {
		return c.leader
	}
	return c.nodes[c.next%len(c.nodes)]
}

// moved notes what an attempt at a node showed of the leader; "": another should be asked.
func (c *Client) moved(asked, leader string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.leader == asked || leader != "" {
		c.leader = leader
	}
	if leader == "" {
		c.next++
	}
}

// once makes one attempt.
func (c *Client) once(ctx context.Context, to string, q call) (*answer, error) {
	ctx, cancel := context.WithTimeout(ctx, c.o.Attempt)
	defer cancel()
	u := url.URL{Scheme: c.scheme, Host: to, Path: q.path, RawQuery: q.query.Encode()}
	r, err := http.NewRequestWithContext(ctx, q.method, u.String(), bytes.NewReader(q.body))
	if err != nil {
		return nil, err
	}
	if q.header != nil {
		r.Header = q.header.Clone()
	}
	if c.o.Token != "" {
		r.Header.Set("Authorization", "Bearer "+c.o.Token)
	}
	res, err := c.http.Do(r)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	return &answer{code: res.StatusCode, header: res.Header, body: b}, err
}

// do repeats a call until there is an answer that another attempt would not change.
func (c *Client) do(ctx context.Context, q call) (*answer, error) {
	var last error
	first := true
	for pause := 5 * time.Millisecond; ; pause = min(2*pause, 250*time.Millisecond) {
		to := q.node
		if to == "" {
			to = c.target()
		}
		a, err := c.once(ctx, to, q)
		if err == nil {
			a.first = first
		}
		first = first && err == nil && a.code == http.StatusMisdirectedRequest // which carries nothing out
		switch {
		case err != nil:
			last = err
			c.moved(to, "")
		case a.code == http.StatusMisdirectedRequest:
			last = errors.New(message(a))
			if leader := a.header.Get(server.LeaderHeader); leader != to && leader != "" {
				c.moved(to, leader)
				if pause < 100*time.Millisecond {
					continue
				}
			} else {
				c.moved(to, "")
			}
		case a.code == http.StatusServiceUnavailable || a.code == http.StatusGatewayTimeout:
			last = errors.New(message(a))
			c.moved(to, "")
		default:
			return a, nil
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("%w; last: %w", ctx.Err(), last)
		case <-time.After(pause):
		}
	}
}

func message(a *answer) string {
	var e server.Error
	if json.Unmarshal(a.body, &e) == nil && e.Error != "" {
		return e.Error
	}
	return fmt.Sprintf("HTTP %d: %.200s", a.code, a.body)
}

func keyPath(key []byte) string { return "/v1/kv/" + base64.RawURLEncoding.EncodeToString(key) }

func binary() url.Values { return url.Values{"base64": {"1"}} }

// Get returns the value of a key, or ErrNotFound.
func (c *Client) Get(ctx context.Context, key []byte) ([]byte, error) {
	q := binary()
	if c.o.Read != "" {
		q.Set("read", string(c.o.Read))
	}
	a, err := c.do(ctx, call{method: "GET", path: keyPath(key), query: q})
	switch {
	case err != nil:
		return nil, err
	case a.code == http.StatusNotFound:
		return nil, ErrNotFound
	case a.code != http.StatusOK:
		return nil, errors.New(message(a))
	}
	return a.body, nil
}

// take returns a session that nobody uses.
func (c *Client) take(ctx context.Context) (*session, error) {
	c.mu.Lock()
	if n := len(c.sessions); n > 0 {
		s := c.sessions[n-1]
		c.sessions = c.sessions[:n-1]
		c.mu.Unlock()
		return s, nil
	}
	c.mu.Unlock()
	a, err := c.do(ctx, call{method: "POST", path: "/v1/session"})
	if err != nil {
		return nil, err
	}
	var v struct{ Session uint64 }
	if a.code != http.StatusOK || json.Unmarshal(a.body, &v) != nil || v.Session == 0 {
		return nil, errors.New(message(a))
	}
	return &session{id: v.Session}, nil
}

// write sends a write until it is known to be carried out. A session that expired while nobody used
// it is replaced by a new one: then nothing was carried out.
func (c *Client) write(ctx context.Context, q call) (res server.Answer, err error) {
	for {
		expired, err := c.writeIn(ctx, q, &res)
		if !expired {
			return res, err
		}
	}
}

// writeIn is write in one session. A session whose last request has no answer is not used again:
// what it asked for may still be on its way.
func (c *Client) writeIn(ctx context.Context, q call, res *server.Answer) (expired bool, err error) {
	s, err := c.take(ctx)
	if err != nil {
		return false, err // nothing was sent
	}
	s.request++
	q.header = http.Header{server.SessionHeader: {strconv.FormatUint(s.id, 10)}, server.RequestHeader: {strconv.FormatUint(s.request, 10)}}
	a, err := c.do(ctx, q)
	switch {
	case err != nil:
		return false, fmt.Errorf("%w: %w", ErrUnknown, err)
	case a.code == http.StatusConflict && a.first && s.request > 1:
		return true, nil
	case a.code == http.StatusConflict:
		return false, fmt.Errorf("%w: %s", ErrUnknown, message(a))
	case a.code != http.StatusOK:
		err = errors.New(message(a))
	default:
		err = json.Unmarshal(a.body, res)
	}
	c.mu.Lock()
	c.sessions = append(c.sessions, s)
	c.mu.Unlock()
	return false, err
}

// Put stores a value; ttl 0: for ever.
func (c *Client) Put(ctx context.Context, key, value []byte, ttl time.Duration) error {
	q := binary()
	if ttl > 0 {
		q.Set("ttl", ttl.String())
	}
	_, err := c.write(ctx, call{method: "PUT", path: keyPath(key), query: q, body: value})
	return err
}

// Delete removes a key; it need not be there.
func (c *Client) Delete(ctx context.Context, key []byte) error {
	_, err := c.write(ctx, call{method: "DELETE", path: keyPath(key), query: binary()})
	return err
}

// Batch carries out all operations if all conditions hold, and says whether they did.
func (c *Client) Batch(ctx context.Context, b server.Batch) (held bool, err error) {
	body, err := json.Marshal(b)
	if err != nil {
		return false, err
	}
	a, err := c.write(ctx, call{method: "POST", path: "/v1/batch", body: body})
	return a.Held, err
}

// CompareAndSwap stores value if key has the value old; a nil old means that there is no such key.
func (c *Client) CompareAndSwap(ctx context.Context, key, old, value []byte) (swapped bool, err error) {
	b64 := base64.StdEncoding.EncodeToString
	return c.Batch(ctx, server.Batch{
		If:     []server.If{{Key: b64(key), Value: b64(old), Absent: old == nil}},
		Do:     []server.Do{{Op: "put", Key: b64(key), Value: b64(value)}},
		Base64: true,
	})
}

// Scan calls fn with the records of [start, end) in order, page by page; nil end: open. Each page
// is of one instant; the whole is not. fn returns false to end it.
func (c *Client) Scan(ctx context.Context, start, end []byte, page int, fn func(key, value []byte) bool) error {
	b64 := base64.StdEncoding
	for {
		q := binary()
		q.Set("start", b64.EncodeToString(start))
		q.Set("limit", strconv.Itoa(page))
		q.Set("read", string(c.o.Read))
		if end != nil {
			q.Set("end", b64.EncodeToString(end))
		}
		a, err := c.do(ctx, call{method: "GET", path: "/v1/scan", query: q})
		if err != nil {
			return err
		}
		var p server.Page
		if a.code != http.StatusOK {
			return errors.New(message(a))
		}
		if err := json.Unmarshal(a.body, &p); err != nil {
			return err
		}
		for _, i := range p.Items {
			k, err1 := b64.DecodeString(i.Key)
			v, err2 := b64.DecodeString(i.Value)
			if err := errors.Join(err1, err2); err != nil {
				return err
			}
			if !fn(k, v) {
				return nil
			}
		}
		if p.Next == "" {
			return nil
		}
		if start, err = b64.DecodeString(p.Next); err != nil {
			return err
		}
	}
}

// post sends v to the leader, or to one node where that is named.
func (c *Client) post(ctx context.Context, to, path string, v any) error {
	body, err := json.Marshal(v)
	if err != nil {
		return err
	}
	a, err := c.do(ctx, call{method: "POST", path: path, body: body, node: to})
	if err == nil && a.code != http.StatusOK {
		err = errors.New(message(a))
	}
	return err
}

// Join, Remove and Transfer change the cluster: see package node.
func (c *Client) Join(ctx context.Context, id, address string) error {
	return c.post(ctx, "", "/v1/join", node.Member{ID: id, Address: address})
}

// Remove removes a node.
func (c *Client) Remove(ctx context.Context, id string) error {
	return c.post(ctx, "", "/v1/remove", node.Member{ID: id})
}

// Transfer makes another node lead; "": any.
func (c *Client) Transfer(ctx context.Context, id string) error {
	return c.post(ctx, "", "/v1/transfer", node.Member{ID: id})
}

// Status returns how a node stands.
func (c *Client) Status(ctx context.Context, address string) (s node.Status, err error) {
	a, err := c.once(ctx, address, call{method: "GET", path: "/v1/status"})
	if err == nil && a.code != http.StatusOK {
		err = errors.New(message(a))
	}
	if err == nil {
		err = json.Unmarshal(a.body, &s)
	}
	return s, err
}
