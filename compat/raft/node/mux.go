package node

import (
	"crypto/tls"
	"errors"
	"net"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// helloTime is how long a new connection may take to say what it is.
const helloTime = 10 * time.Second

// mux accepts connections of nodes and of clients on one listener. The first byte of a raft
// connection is the number of a call, and that of a question for the clock is askClock; both are
// below 32. HTTP begins with a letter.
type mux struct {
	base    net.Listener
	server  *tls.Config
	nodes   *queue
	clients *queue
	now     func() time.Time
}

// queue is a net.Listener that is fed.
type queue struct {
	addr  net.Addr
	conns chan net.Conn
	once  sync.Once
	done  chan struct{}
}

func newQueue(addr net.Addr) *queue {
	return &queue{addr: addr, conns: make(chan net.Conn), done: make(chan struct{})}
}

func (q *queue) Accept() (net.Conn, error) {
	select {
	case c := <-q.conns:
		return c, nil
	case <-q.done:
		return nil, net.ErrClosed
	}
}

func (q *queue) Close() error   { q.once.Do(func() { close(q.done) }); return nil }
func (q *queue) Addr() net.Addr { return q.addr }

func (q *queue) put(c net.Conn) {
	select {
	case q.conns <- c:
	case <-q.done:
		_ = c.Close()
	}
}

func newMux(c *Config) *mux {
	m := &mux{base: c.Listener, server: c.ServerTLS, now: c.Now}
	m.nodes, m.clients = newQueue(c.Listener.Addr()), newQueue(c.Listener.Addr())
	return m
}

func (m *mux) serve() {
	for {
		c, err := m.base.Accept()
		if errors.Is(err, net.ErrClosed) {
			_ = m.nodes.Close()
			_ = m.clients.Close()
			return
		}
		if err != nil {
			time.Sleep(50 * time.Millisecond) // too many open files, say
			continue
		}
		go m.sort(c)
	}
}

// sort finds out what a connection is.
func (m *mux) sort(c net.Conn) {
	_ = c.SetDeadline(time.Now().Add(helloTime))
	if m.server != nil {
		c = tls.Server(c, m.server)
	}
	var first [1]byte
	if _, err := c.Read(first[:]); err != nil {
		_ = c.Close()
		return
	}
	_ = c.SetDeadline(time.Time{})
	known := &begun{Conn: c, first: first[:]}
	if first[0] >= 32 {
		m.clients.put(known)
		return
	}
	if t, ok := c.(*tls.Conn); ok && len(t.ConnectionState().VerifiedChains) == 0 {
		_ = c.Close() // a node must show a certificate
		return
	}
	if first[0] == askClock {
		m.tellClock(c)
		return
	}
	m.nodes.put(known)
}

// begun is a connection of which the first byte was read.
type begun struct {
	net.Conn
	first []byte
}

func (b *begun) Read(p []byte) (int, error) {
	if len(b.first) > 0 && len(p) > 0 {
		n := copy(p, b.first)
		b.first = b.first[n:]
		return n, nil
	}
	return b.Conn.Read(p)
}

// layer is raft's view of the connections.
type layer struct {
	*queue
	client    *tls.Config
	advertise net.Addr
}

type address string

func (a address) Network() string { return "tcp" }
func (a address) String() string  { return string(a) }

func (l *layer) Addr() net.Addr { return l.advertise }

// Dial connects to another node.
func (l *layer) Dial(to raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	d := &net.Dialer{Timeout: timeout}
	// Where the node listens on an address of its own, it calls from that one too, so that
	// firewalls can tell nodes apart.
	if at, ok := l.queue.addr.(*net.TCPAddr); ok && !at.IP.IsUnspecified() && !at.IP.Equal(net.IPv4(127, 0, 0, 1)) {
		d.LocalAddr = &net.TCPAddr{IP: at.IP, Zone: at.Zone}
	}
	if l.client != nil {
		return tls.DialWithDialer(d, "tcp", string(to), l.client)
	}
	return d.Dial("tcp", string(to))
}
