package server

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strconv"
	"time"
	"unicode/utf8"

	nvkvraft "nvkv/compat/raft"
)

// Item is a key with its value. Both are text, or base64 where Base64 is set.
type Item struct {
	Key    string `json:"key"`
	Value  string `json:"value"`
	Base64 bool   `json:"base64,omitempty"`
}

func newItem(k, v []byte, binary bool) Item {
	if binary || !utf8.Valid(k) || !utf8.Valid(v) {
		return Item{base64.StdEncoding.EncodeToString(k), base64.StdEncoding.EncodeToString(v), true}
	}
	return Item{Key: string(k), Value: string(v)}
}

// Page is the answer to a scan. Next, where it is set, is the start of the next page.
type Page struct {
	Items  []Item `json:"items"`
	Next   string `json:"next,omitempty"` // base64 where Base64 is set
	Base64 bool   `json:"base64,omitempty"`
	Index  uint64 `json:"index"`
}

// If is a condition of a batch.
type If struct {
	Key    string `json:"key"`
	Value  string `json:"value,omitempty"`
	Absent bool   `json:"absent,omitempty"`
}

// Do is an operation of a batch: one of "put", "delete", "delete_range".
type Do struct {
	Op    string  `json:"op"`
	Key   string  `json:"key"`
	Value string  `json:"value,omitempty"`
	End   *string `json:"end,omitempty"` // of delete_range; absent: open
	TTL   string  `json:"ttl,omitempty"` // of put
}

// Batch is a request: if all conditions hold, all operations are carried out, at one instant.
type Batch struct {
	If     []If `json:"if,omitempty"`
	Do     []Do `json:"do"`
	Base64 bool `json:"base64,omitempty"` // all keys, values and ends are base64
}

// Answer is that to a write.
type Answer struct {
	Held  bool   `json:"held"`
	Index uint64 `json:"index"`
}

// Change is a line of a watch: an operation with its index, or only an index, up to which there
// was nothing.
type Change struct {
	Index   uint64     `json:"index"`
	Op      string     `json:"op,omitempty"`
	Key     string     `json:"key,omitempty"`
	Value   string     `json:"value,omitempty"`
	End     *string    `json:"end,omitempty"`
	Expires *time.Time `json:"expires_at,omitempty"`
	Base64  bool       `json:"base64,omitempty"`
	Error   string     `json:"error,omitempty"` // the last line where the watch cannot go on
}

func decode(text string, binary bool) ([]byte, error) {
	if !binary {
		return []byte(text), nil
	}
	b, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return nil, bad("%.40q is not base64", text)
	}
	return b, nil
}

// pathKey is the key in the path; with ?base64=1 it is that of the URL alphabet.
func pathKey(r *http.Request) ([]byte, error) {
	text := r.PathValue("key")
	if r.URL.Query().Get("base64") == "" {
		return []byte(text), nil
	}
	k, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil {
		return nil, bad("key %.40q is not base64 for URLs", text)
	}
	return k, nil
}

func (s *Server) get(w http.ResponseWriter, r *http.Request) error {
	key, err := pathKey(r)
	if err != nil {
		return err
	}
	v, index, err := s.node.Get(r.Context(), consistency(r), key)
	w.Header().Set(IndexHeader, strconv.FormatUint(index, 10))
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	_, err = w.Write(v)
	return ignore(err)
}

// ignore drops an error of sending to a client that is gone.
func ignore(error) error { return nil }

// write has a command carried out, as a request of a session where the headers name one.
func (s *Server) write(w http.ResponseWriter, r *http.Request, c nvkvraft.Command) error {
	var err error
	if text := r.Header.Get(SessionHeader); text != "" {
		if c.Session, err = strconv.ParseUint(text, 10, 64); err == nil {
			c.Request, err = strconv.ParseUint(r.Header.Get(RequestHeader), 10, 64)
		}
		if err != nil {
			return bad("%s and %s must be numbers", SessionHeader, RequestHeader)
		}
	}
	res, err := s.node.Do(c)
	if err == nil {
		reply(w, http.StatusOK, Answer{res.Held, res.Index})
	}
	return err
}

func (s *Server) put(w http.ResponseWriter, r *http.Request) error {
	key, err := pathKey(r)
	if err != nil {
		return err
	}
	ttl, err := lifetime(r)
	if err != nil {
		return err
	}
	value, err := io.ReadAll(http.MaxBytesReader(w, r.Body, MaxBodyBytes))
	if err != nil {
		return err
	}
	o := nvkvraft.Op{Kind: nvkvraft.OpPut, Key: key, Value: value}
	if ttl > 0 {
		now, err := s.node.Now()
		if err != nil {
			return err
		}
		o.Expiry = now.Add(ttl)
	}
	return s.write(w, r, nvkvraft.Command{Do: []nvkvraft.Op{o}})
}

func (s *Server) delete(w http.ResponseWriter, r *http.Request) error {
	key, err := pathKey(r)
	if err != nil {
		return err
	}
	return s.write(w, r, nvkvraft.Command{Do: []nvkvraft.Op{{Kind: nvkvraft.OpDelete, Key: key}}})
}

func (s *Server) session(w http.ResponseWriter, _ *http.Request) error {
	res, err := s.node.Do(nvkvraft.Command{Register: true})
	if err == nil {
		reply(w, http.StatusOK, map[string]uint64{"session": res.Index})
	}
	return err
}

func (s *Server) cas(w http.ResponseWriter, r *http.Request) error {
	var q struct {
		Key    string `json:"key"`
		Old    string `json:"old"`
		New    string `json:"new"`
		Absent bool   `json:"absent"` // instead of Old
		Base64 bool   `json:"base64"`
	}
	if err := readJSON(w, r, &q); err != nil {
		return err
	}
	b := Batch{If: []If{{q.Key, q.Old, q.Absent}}, Do: []Do{{Op: "put", Key: q.Key, Value: q.New}}, Base64: q.Base64}
	c, err := s.command(b)
	if err != nil {
		return err
	}
	return s.write(w, r, c)
}

func (s *Server) batch(w http.ResponseWriter, r *http.Request) error {
	var b Batch
	if err := readJSON(w, r, &b); err != nil {
		return err
	}
	c, err := s.command(b)
	if err != nil {
		return err
	}
	return s.write(w, r, c)
}

func (s *Server) command(b Batch) (c nvkvraft.Command, err error) {
	text := func(t string) []byte {
		v, e := decode(t, b.Base64)
		err = errors.Join(err, e)
		return v
	}
	for _, i := range b.If {
		c.If = append(c.If, nvkvraft.Condition{Key: text(i.Key), Value: text(i.Value), Absent: i.Absent})
	}
	for _, d := range b.Do {
		o := nvkvraft.Op{Key: text(d.Key)}
		switch d.Op {
		case "put":
			o.Kind, o.Value = nvkvraft.OpPut, text(d.Value)
			if d.TTL != "" {
				ttl, e := time.ParseDuration(d.TTL)
				if e != nil || ttl <= 0 {
					return c, bad("ttl %.40q: want a duration such as 90s", d.TTL)
				}
				now, e := s.node.Now()
				if e != nil {
					return c, e
				}
				o.Expiry = now.Add(ttl)
			}
		case "delete":
			o.Kind = nvkvraft.OpDelete
		case "delete_range":
			o.Kind = nvkvraft.OpDeleteRange
			if d.End != nil {
				o.End = text(*d.End)
			}
		default:
			return c, bad("op %.40q: want put, delete or delete_range", d.Op)
		}
		c.Do = append(c.Do, o)
	}
	return c, err
}

const (
	pageKeys  = 1000
	pageBytes = 4 << 20
)

func (s *Server) scan(w http.ResponseWriter, r *http.Request) error {
	q := r.URL.Query()
	binary := q.Get("base64") != ""
	start, err := decode(q.Get("start"), binary)
	if err != nil {
		return err
	}
	var end []byte
	if q.Has("end") {
		if end, err = decode(q.Get("end"), binary); err != nil {
			return err
		}
	}
	prefix, err := decode(q.Get("prefix"), binary)
	if err != nil {
		return err
	}
	start, end = narrow(start, end, prefix)
	limit, err := number(r, "limit", pageKeys)
	if err != nil {
		return err
	}
	limit = min(max(limit, 1), 100*pageKeys)
	page := Page{Items: []Item{}}
	err = s.node.Read(r.Context(), consistency(r), func(f *nvkvraft.FSM, index uint64) error {
		page.Index = index
		bytes := 0
		return f.Scan(start, end, int(limit)+1, func(k, v []byte) bool {
			if len(page.Items) == int(limit) || bytes > pageBytes {
				next := newItem(k, nil, binary)
				page.Next, page.Base64 = next.Key, next.Base64
				return false
			}
			bytes += len(k) + len(v)
			page.Items = append(page.Items, newItem(k, v, binary))
			return true
		})
	})
	if err == nil {
		reply(w, http.StatusOK, page)
	}
	return err
}

// narrow returns the part of a range that has a prefix.
func narrow(start, end, prefix []byte) ([]byte, []byte) {
	if len(prefix) == 0 {
		return start, end
	}
	if string(start) < string(prefix) {
		start = prefix
	}
	if above := after(prefix); above != nil && (end == nil || string(above) < string(end)) {
		end = above
	}
	return start, end
}

// after returns the lowest key above all that begin with p, nil where there is none.
func after(p []byte) []byte {
	for i := len(p) - 1; i >= 0; i-- {
		if p[i] != 0xff {
			return append(append([]byte(nil), p[:i]...), p[i]+1)
		}
	}
	return nil
}

func (s *Server) watch(w http.ResponseWriter, r *http.Request) error {
	from := s.node.Status().Applied
	from, err := number(r, "after", from)
	if err != nil {
		return err
	}
	binary := r.URL.Query().Get("base64") != ""
	prefix, err := decode(r.URL.Query().Get("prefix"), binary)
	if err != nil {
		return err
	}
	ctx := r.Context()
	w.Header().Set("Content-Type", "application/jsonl")
	out, flush := json.NewEncoder(w), http.NewResponseController(w)
	send := func(c Change) bool { return out.Encode(c) == nil }
	if send(Change{Index: from}); flush.Flush() != nil {
		return nil
	}
	for s.ctx.Err() == nil {
		wait, cancel := contextOf(ctx, s.ctx)
		events, upTo, err := s.node.Watch(wait, from)
		cancel()
		if err != nil {
			send(Change{Index: from, Error: err.Error()})
			return nil
		}
		for _, e := range events {
			if concerns(e, prefix) && !send(changeOf(e, binary)) {
				return nil
			}
		}
		from = upTo
		if !send(Change{Index: from}) || flush.Flush() != nil {
			return nil
		}
	}
	return nil
}

func concerns(e nvkvraft.Event, prefix []byte) bool {
	if e.Kind == nvkvraft.OpDeleteRange {
		low, high := narrow(e.Key, e.End, prefix)
		return high == nil || string(low) < string(high)
	}
	return len(e.Key) >= len(prefix) && string(e.Key[:len(prefix)]) == string(prefix)
}

func changeOf(e nvkvraft.Event, binary bool) Change {
	binary = binary || !utf8.Valid(e.Key) || !utf8.Valid(e.Value) || !utf8.Valid(e.End)
	i := newItem(e.Key, e.Value, binary)
	c := Change{Index: e.Index, Key: i.Key, Value: i.Value, Base64: i.Base64}
	switch e.Kind {
	case nvkvraft.OpPut:
		c.Op = "put"
		if !e.Expiry.IsZero() {
			c.Expires = &e.Expiry
		}
	case nvkvraft.OpDelete:
		c.Op = "delete"
	case nvkvraft.OpDeleteRange:
		c.Op = "delete_range"
		if e.End != nil {
			end := newItem(e.End, nil, binary).Key
			c.End = &end
		}
	}
	return c
}
