package main

import (
	"io"
	"net"
	"sync"
	"testing"
)

// proxy stands before a node and can cut it off from others. It tells who calls by the address
// that a node calls from.
type proxy struct {
	l  net.Listener
	to string

	mu    sync.Mutex
	cut   map[string]bool // callers that are not let through
	conns map[net.Conn]string
}

func newProxy(t *testing.T, to string) *proxy {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{l: l, to: to, cut: map[string]bool{}, conns: map[net.Conn]string{}}
	go p.serve()
	t.Cleanup(func() { _ = l.Close(); p.block("", true) })
	return p
}

func (p *proxy) address() string { return p.l.Addr().String() }

func (p *proxy) serve() {
	for {
		c, err := p.l.Accept()
		if err != nil {
			return
		}
		go p.pass(c)
	}
}

func (p *proxy) pass(c net.Conn) {
	host, _, _ := net.SplitHostPort(c.RemoteAddr().String())
	p.mu.Lock()
	cut := p.cut[host]
	if !cut {
		p.conns[c] = host
	}
	p.mu.Unlock()
	defer func() {
		_ = c.Close()
		p.mu.Lock()
		delete(p.conns, c)
		p.mu.Unlock()
	}()
	if cut {
		return
	}
	d, err := net.Dial("tcp", p.to)
	if err != nil {
		return
	}
	go func() { _, _ = io.Copy(d, c); _ = d.Close() }()
	_, _ = io.Copy(c, d)
	_ = d.Close()
}

// block cuts a caller off, or all for "", or lets it through again.
func (p *proxy) block(host string, cut bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cut[host] = cut
	for c, h := range p.conns {
		if cut && (h == host || host == "") {
			_ = c.Close()
		}
	}
}
