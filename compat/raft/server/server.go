// Package server answers HTTP requests for a node of a cluster. docs/cluster.md lists them.
package server

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	nvkvraft "nvkv/compat/raft"
	"nvkv/compat/raft/node"
	"nvkv/kv"
)

const (
	// SessionHeader and RequestHeader make a write one that is carried out once.
	SessionHeader = "Nvkv-Session"
	RequestHeader = "Nvkv-Request"

	// IndexHeader of an answer has the index of the last command that it knows of.
	IndexHeader = "Nvkv-Index"

	// LeaderHeader of an answer with 421 has the address of the leader, if there is one.
	LeaderHeader = "Nvkv-Leader"
)

// MaxBodyBytes bounds a request, but for a restore.
const MaxBodyBytes = 16 << 20

// Role is what a token allows. Each allows what those before it do.
type Role int

// The roles. A request without a token has none of them.
const (
	noRole Role = iota
	Read        // gets, scans, watches, status, metrics, backups
	Write       // changes of keys
	Admin       // changes of the cluster, restores, snapshots
)

// ParseRole returns the role of a name: "read", "write" or "admin".
func ParseRole(name string) (Role, bool) {
	role, ok := map[string]Role{"read": Read, "write": Write, "admin": Admin}[name]
	return role, ok
}

// Token is what a client shows.
type Token struct {
	Secret string
	Role   Role
}

type knownToken struct {
	sum  [sha256.Size]byte
	role Role
}

// Server is an http.Handler for a node.
type Server struct {
	node   *node.Node
	tokens []knownToken
	mux    *http.ServeMux
	ctx    context.Context // ends watches
	end    context.CancelFunc
}

// New returns a server. Requests must carry one of the tokens, whose role allows them; without
// tokens all are served.
func New(n *node.Node, tokens []Token) *Server {
	s := &Server{node: n, mux: http.NewServeMux()}
	s.ctx, s.end = context.WithCancel(context.Background())
	for _, t := range tokens {
		s.tokens = append(s.tokens, knownToken{sha256.Sum256([]byte(t.Secret)), t.Role})
	}
	s.handle(Read, "GET /v1/kv/{key...}", s.get)
	s.handle(Write, "PUT /v1/kv/{key...}", s.put)
	s.handle(Write, "DELETE /v1/kv/{key...}", s.delete)
	s.handle(Read, "GET /v1/scan", s.scan)
	s.handle(Write, "POST /v1/cas", s.cas)
	s.handle(Write, "POST /v1/batch", s.batch)
	s.handle(Write, "POST /v1/session", s.session)
	s.handle(Read, "GET /v1/watch", s.watch)
	s.handle(Read, "GET /v1/metrics", s.metrics)
	s.handle(Read, "GET /v1/status", s.status)
	s.handle(Read, "GET /v1/backup", s.backup)
	s.handle(Admin, "POST /v1/restore", s.restore)
	s.handle(Admin, "POST /v1/join", s.join)
	s.handle(Admin, "POST /v1/remove", s.remove)
	s.handle(Admin, "POST /v1/transfer", s.transfer)
	s.handle(Admin, "POST /v1/snapshot", func(w http.ResponseWriter, _ *http.Request) error { return done(w, n.Snapshot()) })
	s.mux.HandleFunc("GET /v1/health", s.health) // for a load balancer: tells nothing secret
	return s
}

// handle has requests served whose token has at least a role.
func (s *Server) handle(least Role, pattern string, fn func(w http.ResponseWriter, r *http.Request) error) {
	s.mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
		switch role := s.role(r); {
		case role == noRole:
			w.Header().Set("WWW-Authenticate", "Bearer")
			reply(w, http.StatusUnauthorized, Error{Error: "a token is needed"})
			return
		case role < least:
			reply(w, http.StatusForbidden, Error{Error: "the token does not allow this"})
			return
		}
		err := known(consistency(r))
		if err == nil {
			err = fn(w, r)
		}
		if err != nil {
			fail(w, err)
		}
	})
}

// Close ends the watches. Other requests end by themselves.
func (s *Server) Close() { s.end() }

func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.mux.ServeHTTP(w, r) }

// role returns what a request may do. It compares with every token, in constant time.
func (s *Server) role(r *http.Request) Role {
	if len(s.tokens) == 0 {
		return Admin
	}
	given, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	sum, role := sha256.Sum256([]byte(given)), noRole
	for i := range s.tokens {
		if subtle.ConstantTimeCompare(sum[:], s.tokens[i].sum[:]) == 1 {
			role = max(role, s.tokens[i].role)
		}
	}
	if !ok {
		return noRole
	}
	return role
}

// Error is the answer where a request fails.
type Error struct {
	Error  string `json:"error"`
	Leader string `json:"leader,omitempty"`
	// Unknown says that a write may have been carried out.
	Unknown bool `json:"unknown,omitempty"`
}

type badRequest struct{ error }

func bad(format string, args ...any) error { return badRequest{fmt.Errorf(format, args...)} }

func reply(w http.ResponseWriter, code int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(v)
}

func done(w http.ResponseWriter, err error) error {
	if err == nil {
		reply(w, http.StatusOK, struct{}{})
	}
	return err
}

func fail(w http.ResponseWriter, err error) {
	var other *node.NotLeaderError
	e := Error{Error: err.Error()}
	code := http.StatusInternalServerError
	switch {
	case errors.As(err, &other) && other.Address == "":
		code = http.StatusServiceUnavailable
	case errors.As(err, &other):
		code, e.Leader = http.StatusMisdirectedRequest, other.Address
		w.Header().Set(LeaderHeader, other.Address)
	case errors.Is(err, node.ErrUnknown):
		code, e.Unknown = http.StatusGatewayTimeout, true
	case errors.Is(err, node.ErrUnavailable):
		code = http.StatusServiceUnavailable
	case errors.Is(err, kv.ErrNotFound):
		code = http.StatusNotFound
	case errors.Is(err, nvkvraft.ErrSession), errors.Is(err, nvkvraft.ErrRequest):
		code, e.Unknown = http.StatusConflict, true
	case errors.Is(err, nvkvraft.ErrCompacted):
		code = http.StatusGone
	case errors.Is(err, nvkvraft.ErrCommand), errors.Is(err, nvkvraft.ErrSnapshot), errors.As(err, new(badRequest)):
		code = http.StatusBadRequest
	case errors.As(err, new(*http.MaxBytesError)):
		code = http.StatusRequestEntityTooLarge
	}
	reply(w, code, e)
}

func (s *Server) health(w http.ResponseWriter, _ *http.Request) {
	st := s.node.Status()
	code := http.StatusOK
	if st.Leader == "" || st.Error != "" {
		code = http.StatusServiceUnavailable
	}
	reply(w, code, map[string]any{"state": st.State, "leader": st.Leader != ""})
}

func (s *Server) status(w http.ResponseWriter, _ *http.Request) error {
	reply(w, http.StatusOK, s.node.Status())
	return nil
}

func (s *Server) metrics(w http.ResponseWriter, _ *http.Request) error {
	log, state, err := s.node.Metrics()
	if err == nil {
		reply(w, http.StatusOK, map[string]any{"log": log, "state": state, "raft": s.node.Status()})
	}
	return err
}

func (s *Server) backup(w http.ResponseWriter, r *http.Request) error {
	w.Header().Set("Content-Type", "application/octet-stream")
	sent := &counted{w: w}
	err := s.node.Backup(r.Context(), consistency(r), sent)
	if err != nil && sent.n > 0 {
		panic(http.ErrAbortHandler) // the status is sent: a broken connection tells that it is not whole
	}
	return err
}

type counted struct {
	w io.Writer
	n int
}

func (c *counted) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += n
	return n, err
}

// restore keeps the backup in a file first: raft must know its length.
func (s *Server) restore(w http.ResponseWriter, r *http.Request) error {
	f, err := os.CreateTemp("", "nvkvd-restore-")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	if _, err := io.Copy(f, r.Body); err != nil {
		return err
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return err
	}
	return done(w, s.node.Restore(f))
}

type memberRequest struct{ ID, Address string }

func (s *Server) member(w http.ResponseWriter, r *http.Request, fn func(memberRequest) error) error {
	var m memberRequest
	if err := readJSON(w, r, &m); err != nil {
		return err
	}
	return done(w, fn(m))
}

func (s *Server) join(w http.ResponseWriter, r *http.Request) error {
	return s.member(w, r, func(m memberRequest) error { return s.node.Join(m.ID, m.Address) })
}

func (s *Server) remove(w http.ResponseWriter, r *http.Request) error {
	return s.member(w, r, func(m memberRequest) error { return s.node.Remove(m.ID) })
}

func (s *Server) transfer(w http.ResponseWriter, r *http.Request) error {
	return s.member(w, r, func(m memberRequest) error { return s.node.Transfer(m.ID) })
}

func readJSON(w http.ResponseWriter, r *http.Request, v any) error {
	d := json.NewDecoder(http.MaxBytesReader(w, r.Body, MaxBodyBytes))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		if errors.As(err, new(*http.MaxBytesError)) {
			return err
		}
		return bad("the body: %v", err)
	}
	return nil
}

func consistency(r *http.Request) node.Consistency {
	return node.Consistency(r.URL.Query().Get("read"))
}

func known(c node.Consistency) error {
	switch c {
	case "", node.Linearizable, node.Lease, node.Stale:
		return nil
	}
	return bad("read=%.40q: want linearizable, lease or stale", string(c))
}

// number reads a number of the query, or returns def.
func number(r *http.Request, name string, def uint64) (uint64, error) {
	text := r.URL.Query().Get(name)
	if text == "" {
		return def, nil
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return 0, bad("%s=%.40q is no number", name, text)
	}
	return n, nil
}

func lifetime(r *http.Request) (time.Duration, error) {
	text := r.URL.Query().Get("ttl")
	if text == "" {
		return 0, nil
	}
	d, err := time.ParseDuration(text)
	if err != nil || d <= 0 {
		return 0, bad("ttl=%.40q: want a duration such as 90s", text)
	}
	return d, nil
}
