package socket

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// Handler answers a request. It sends data and events by out; its result, or its error, ends the
// answer. ctx ends when the client goes away and when the server is closed. Each request has a
// goroutine of its own.
type Handler func(ctx context.Context, q *Request, out *Reply) (result any, err error)

// CodedError is an error with a name by which the client knows its kind again.
type CodedError struct {
	Code string `json:"code"`
	Msg  string `json:"message"`
}

func (e *CodedError) Error() string { return e.Msg }

// Server answers clients until it is closed.
type Server struct {
	l      *net.UnixListener
	path   string
	file   os.FileInfo // the socket that this server made
	answer Handler
	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu    sync.Mutex
	conns map[*net.UnixConn]bool // nil after Close
}

// Listen makes a socket at path, with mode 0600, and answers the clients that connect to it.
func Listen(path string, answer Handler) (*Server, error) {
	if abs, err := filepath.Abs(path); err == nil && len(abs) <= maxPathBytes {
		path = abs // Close must find it from another directory
	}
	l, err := bind(path)
	if err != nil {
		return nil, err
	}
	s := &Server{l: l, path: path, answer: answer, conns: map[*net.UnixConn]bool{}}
	if s.file, err = os.Lstat(path); err != nil {
		l.Close()
		return nil, err
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.wg.Go(s.accept)
	return s, nil
}

// Path returns the path of the socket.
func (s *Server) Path() string { return s.path }

// Close cancels what is under way, waits for its goroutines and removes the socket. A second Close
// does nothing.
func (s *Server) Close() error {
	s.mu.Lock()
	conns := s.conns
	s.conns = nil
	s.mu.Unlock()
	if conns == nil {
		return nil
	}
	s.cancel()
	if now, err := os.Lstat(s.path); err == nil && os.SameFile(now, s.file) {
		os.Remove(s.path) // one that stays is found stale later
	}
	err := s.l.Close()
	for c := range conns {
		c.Close()
	}
	s.wg.Wait()
	return err
}

func (s *Server) accept() {
	for {
		c, err := s.l.AcceptUnix()
		switch {
		case err == nil:
			s.begin(c)
		case errors.Is(err, net.ErrClosed):
			return
		default: // too many open files: later there may be fewer
			select {
			case <-s.ctx.Done():
				return
			case <-time.After(50 * time.Millisecond):
			}
		}
	}
}

// begin starts the goroutine of a connection, unless there are too many.
func (s *Server) begin(c *net.UnixConn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.conns == nil:
		c.Close()
	case len(s.conns) >= maxConns:
		c.SetWriteDeadline(time.Now().Add(time.Second)) // a new connection has room for so little
		f, _ := textFrame(kindError, &CodedError{"busy", fmt.Sprintf("the store answers %d clients already", maxConns)})
		c.Write(append(header(), f...))
		c.Close()
	default:
		s.conns[c] = true
		s.wg.Go(func() { s.serve(c) })
	}
}

// serve answers the request of a connection.
func (s *Server) serve(c *net.UnixConn) {
	defer func() {
		s.mu.Lock()
		delete(s.conns, c)
		s.mu.Unlock()
	}()
	defer c.Close()
	out := &Reply{c: c, Pid: peer(c)}
	c.SetDeadline(time.Now().Add(helloWait))
	q, err := greet(c)
	if err != nil {
		out.end(nil, &CodedError{"protocol", err.Error()}) // it may be gone already
		return
	}
	c.SetReadDeadline(time.Time{})
	ctx, cancel := context.WithCancel(s.ctx)
	defer cancel()
	s.wg.Go(func() { // ends with the connection
		c.Read(make([]byte, 1)) // nothing more may come, so this returns when the client has gone
		cancel()
	})
	result, err := s.answer(ctx, q, out)
	out.end(result, err)
}

// greet exchanges headers and reads the request.
func greet(c net.Conn) (*Request, error) {
	version, err := readHeader(c)
	if _, e := c.Write(header()); err == nil {
		err = e
	}
	if err == nil && version != Version {
		err = fmt.Errorf("the store speaks version %d of the protocol, the client version %d", Version, version)
	}
	if err != nil {
		return nil, err
	}
	return readRequest(c)
}

// Reply is the answer to a request under way. It is for one goroutine.
type Reply struct {
	Pid  int // of the client; 0 if unknown
	c    net.Conn
	data []byte // not sent yet
	err  error  // the first
}

// Write sends bytes of the data stream.
func (r *Reply) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 && r.err == nil {
		take := min(len(p), maxDataBytes-len(r.data))
		r.data = append(r.data, p[:take]...)
		if p = p[take:]; len(r.data) == maxDataBytes {
			r.flush()
		}
	}
	if r.err != nil {
		return 0, r.err
	}
	return n, nil
}

func (r *Reply) flush() {
	if len(r.data) > 0 {
		r.send(appendFrame(nil, kindData, r.data))
		r.data = r.data[:0]
	}
}

// Event sends v as JSON.
func (r *Reply) Event(v any) error {
	r.flush()
	f, err := textFrame(kindEvent, v)
	if err != nil {
		return err
	}
	r.send(f)
	return r.err
}

func (r *Reply) end(result any, err error) {
	if err == nil {
		r.flush()
		var f []byte
		if f, err = textFrame(kindResult, result); err == nil {
			r.send(f)
			return
		}
	}
	coded := new(CodedError)
	if !errors.As(err, &coded) {
		coded = &CodedError{"failed", err.Error()}
	}
	if most := maxTextBytes / 8; len(coded.Msg) > most { // JSON may write 6 bytes for one
		coded = &CodedError{coded.Code, coded.Msg[:most]}
	}
	r.flush() // data before an error are valid
	if f, err := textFrame(kindError, coded); err == nil {
		r.send(f)
	}
}

func (r *Reply) send(frame []byte) {
	if r.err == nil {
		r.c.SetWriteDeadline(time.Now().Add(stallWait))
		_, r.err = r.c.Write(frame)
	}
}
