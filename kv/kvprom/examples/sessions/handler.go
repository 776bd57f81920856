package main

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"nvkv/kv"
	"nvkv/kv/kvprom"
)

// session is the value of the key "s/" + id. A second key, "u/" + user + "\x00" + id, lists a user's
// sessions in order. Both are written by one batch and expire together.
type session struct {
	ID      string          `json:"id"`
	User    string          `json:"user"`
	Expires time.Time       `json:"expires"`
	Data    json.RawMessage `json:"data,omitempty"`
}

const (
	bodyBytesMax = 64 << 10
	userBytesMax = 256
	ttlMax       = 30 * 24 * time.Hour
	pageMax      = 1000
)

func sessionKey(id string) []byte { return []byte("s/" + id) }

func userPrefix(user string) []byte { return []byte("u/" + user + "\x00") }

func userKey(user, id string) []byte { return append(userPrefix(user), id...) }

type handler struct{ db *kv.DB }

// newHandler returns the service on a store.
func newHandler(db *kv.DB) http.Handler {
	registry := prometheus.NewRegistry()
	registry.MustRegister(kvprom.New(db, "sessions"))
	h := &handler{db}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /sessions", h.create)
	mux.HandleFunc("GET /sessions", h.list)
	mux.HandleFunc("GET /sessions/{id}", h.get)
	mux.HandleFunc("POST /sessions/{id}/renew", h.renew)
	mux.HandleFunc("DELETE /sessions/{id}", h.end)
	mux.HandleFunc("GET /healthz", h.health)
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	return mux
}

// request is the body of POST.
type request struct {
	User string          `json:"user"`
	TTL  string          `json:"ttl"`
	Data json.RawMessage `json:"data"`
}

// errBad is a mistake of the client.
type errBad struct{ error }

func read(w http.ResponseWriter, r *http.Request) (q request, ttl time.Duration, err error) {
	d := json.NewDecoder(http.MaxBytesReader(w, r.Body, bodyBytesMax))
	if err := d.Decode(&q); err != nil {
		return q, 0, errBad{fmt.Errorf("the body: %w", err)}
	}
	ttl, err = time.ParseDuration(q.TTL)
	if err != nil || ttl <= 0 || ttl > ttlMax {
		return q, 0, errBad{fmt.Errorf("ttl %q: want a duration up to %v", q.TTL, ttlMax)}
	}
	return q, ttl, nil
}

func (h *handler) create(w http.ResponseWriter, r *http.Request) {
	q, ttl, err := read(w, r)
	if err == nil && (q.User == "" || len(q.User) > userBytesMax || strings.Contains(q.User, "\x00")) {
		err = errBad{errors.New("user: want 1 to 256 bytes, none of them zero")}
	}
	if err != nil {
		answer(w, 0, nil, err)
		return
	}
	s := session{ID: rand.Text(), User: q.User, Expires: time.Now().Add(ttl), Data: q.Data}
	value, err := json.Marshal(s)
	if err == nil {
		b := h.db.NewBatch()
		b.PutUntil(sessionKey(s.ID), value, s.Expires)
		b.PutUntil(userKey(s.User, s.ID), nil, s.Expires)
		err = h.db.Write(b)
	}
	answer(w, http.StatusCreated, s, err)
}

func (h *handler) get(w http.ResponseWriter, r *http.Request) {
	value, err := h.db.Get(sessionKey(r.PathValue("id")))
	answer(w, http.StatusOK, json.RawMessage(value), err)
}

// renew reads and writes in one transaction, so that it cannot bring a session back that another
// request has ended meanwhile.
func (h *handler) renew(w http.ResponseWriter, r *http.Request) {
	_, ttl, err := read(w, r)
	var s session
	if err == nil {
		err = h.db.Update(func(tx *kv.Tx) error {
			value, err := tx.Get(sessionKey(r.PathValue("id")))
			if err == nil {
				err = json.Unmarshal(value, &s)
			}
			if err != nil {
				return err
			}
			s.Expires = time.Now().Add(ttl)
			if value, err = json.Marshal(s); err != nil {
				return err
			}
			return errors.Join(tx.PutUntil(sessionKey(s.ID), value, s.Expires), tx.PutUntil(userKey(s.User, s.ID), nil, s.Expires))
		})
	}
	answer(w, http.StatusOK, s, err)
}

func (h *handler) end(w http.ResponseWriter, r *http.Request) {
	err := h.db.Update(func(tx *kv.Tx) error {
		var s session
		value, err := tx.Get(sessionKey(r.PathValue("id")))
		if err == nil {
			err = json.Unmarshal(value, &s)
		}
		if err != nil {
			return err
		}
		return errors.Join(tx.Delete(sessionKey(s.ID)), tx.Delete(userKey(s.User, s.ID)))
	})
	answer(w, http.StatusNoContent, nil, err)
}

// page is an answer to GET /sessions. Next is the value of after for the next page, "" at the end.
type page struct {
	Sessions []json.RawMessage `json:"sessions"`
	Next     string            `json:"next,omitempty"`
}

func (h *handler) list(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	user, limit := q.Get("user"), 50
	if text := q.Get("limit"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > pageMax {
			answer(w, 0, nil, errBad{fmt.Errorf("limit %q: want 1 to %d", text, pageMax)})
			return
		}
		limit = n
	}
	p := page{Sessions: []json.RawMessage{}}
	err := h.db.View(func(tx *kv.Tx) error {
		prefix := userPrefix(user)
		start := prefix
		if after := q.Get("after"); after != "" {
			start = append(userKey(user, after), 0) // the first key behind it
		}
		last := ""
		for key := range tx.Keys(start, append(userPrefix(user), 0xff)) {
			if len(p.Sessions) == limit {
				p.Next = last
				break
			}
			last = string(key[len(prefix):])
			value, err := tx.Get(sessionKey(last))
			if err != nil {
				return err
			}
			p.Sessions = append(p.Sessions, append(json.RawMessage(nil), value...)) // value ends with tx
		}
		return tx.Err()
	})
	answer(w, http.StatusOK, p, err)
}

// health reads and does not write: a full store is healthy.
func (h *handler) health(w http.ResponseWriter, _ *http.Request) {
	_, err := h.db.Has([]byte("health"))
	answer(w, http.StatusNoContent, nil, err)
}

// answer writes a value, or an error with its status.
func answer(w http.ResponseWriter, status int, value any, err error) {
	var bad errBad
	switch {
	case err == nil:
	case errors.As(err, &bad):
		status = http.StatusBadRequest
	case errors.Is(err, kv.ErrNotFound):
		status, err = http.StatusNotFound, errors.New("no such session")
	case errors.Is(err, kv.ErrFull):
		status = http.StatusInsufficientStorage
	case errors.Is(err, kv.ErrClosed):
		status = http.StatusServiceUnavailable
	default:
		status = http.StatusInternalServerError
	}
	if err != nil {
		value = map[string]string{"error": err.Error()}
	}
	w.Header().Set("Cache-Control", "no-store")
	if value == nil {
		w.WriteHeader(status)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(value) // the client has gone if this fails
}
