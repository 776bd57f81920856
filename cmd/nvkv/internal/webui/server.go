package webui

import (
	"crypto/subtle"
	_ "embed"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"html/template"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"nvkv/kv"
)

//go:embed pages.html
var pagesText string

//go:embed style.css
var style string

var pages = template.Must(template.New("pages").Funcs(template.FuncMap{"id": keyID}).Parse(pagesText))

// A Server is an http.Handler that shows a store. It may be used by many goroutines.
type Server struct {
	db    *kv.DB
	name  string // of the store, for titles
	token string
	mux   *http.ServeMux

	writable bool
}

// New returns a server for a store, which stays open until the server is no longer used. token is the
// first part of each path. With writable, keys can be put and deleted.
func New(db *kv.DB, name, token string, writable bool) *Server {
	s := &Server{db: db, name: name, token: token, mux: http.NewServeMux(), writable: writable}
	s.mux.HandleFunc("GET /{$}", s.list)
	s.mux.HandleFunc("GET /key", s.show)
	s.mux.HandleFunc("GET /raw", s.raw)
	s.mux.HandleFunc("GET /stats", s.stats)
	s.mux.HandleFunc("GET /stats.json", s.statsJSON)
	s.mux.HandleFunc("GET /style.css", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/css; charset=utf-8")
		fmt.Fprint(w, style)
	})
	if writable {
		s.mux.HandleFunc("POST /put", s.put)
		s.mux.HandleFunc("POST /delete", s.delete)
	}
	return s
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cache-Control", "no-store")
	if !isLoopback(r.Host) {
		http.Error(w, "this page is served under a loopback address only", http.StatusForbidden)
		return
	}
	token, rest, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	if subtle.ConstantTimeCompare([]byte(token), []byte(s.token)) != 1 {
		http.NotFound(w, r)
		return
	}
	if origin := r.Header.Get("Origin"); r.Method == http.MethodPost && origin != "" && origin != "null" && origin != "http://"+r.Host {
		http.Error(w, "a form of another origin", http.StatusForbidden)
		return
	}
	r2 := r.Clone(r.Context())
	r2.URL.Path, r2.URL.RawPath = "/"+rest, ""
	s.mux.ServeHTTP(w, r2)
}

// isLoopback says whether the Host of a request is an address of this machine's own, or localhost.
func isLoopback(host string) bool {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	if host == "localhost" {
		return true
	}
	a, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return err == nil && a.IsLoopback()
}

// keyID is the form of a key in URLs and forms: keys are any bytes.
func keyID(key []byte) string { return base64.RawURLEncoding.EncodeToString(key) }

func keyOf(id string) ([]byte, error) { return base64.RawURLEncoding.DecodeString(id) }

// base is what every page needs. Relative URLs keep the token out of the pages.
type base struct {
	Store    string
	Writable bool
	Live     bool // the page loads itself again
}

func (s *Server) base() base { return base{Store: s.name, Writable: s.writable} }

// render writes a page.
func render(w http.ResponseWriter, name string, data any) {
	var page strings.Builder
	if err := pages.ExecuteTemplate(&page, name, data); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	fmt.Fprint(w, page.String())
}

// fail writes an error as plain text.
func fail(w http.ResponseWriter, err error) {
	status := http.StatusInternalServerError
	switch {
	case errors.Is(err, kv.ErrNotFound):
		status = http.StatusNotFound
	case errors.Is(err, kv.ErrFull):
		status = http.StatusInsufficientStorage
	case errors.Is(err, errBad):
		status = http.StatusBadRequest
	}
	http.Error(w, err.Error(), status)
}

var errBad = errors.New("wrong request")

// pageKeys is how many keys a page lists.
const pageKeys = 100

// listPage lists keys.
type listPage struct {
	base
	Prefix string // as typed
	Rows   []row
	Next   string // id of the first key of the next page, "" at the end
	Keys   int64
	Fault  string // where the list ends early
}

// row is a key in a list.
type row struct {
	Key     []byte
	Shown   string
	Bytes   int
	Preview string
	Expires string
}

func (s *Server) list(w http.ResponseWriter, r *http.Request) {
	p := listPage{base: s.base(), Prefix: r.FormValue("prefix")}
	prefix, err := unquote(p.Prefix)
	start := prefix
	if err == nil && r.FormValue("from") != "" {
		start, err = keyOf(r.FormValue("from"))
	}
	if err != nil {
		fail(w, fmt.Errorf("%w: %w", errBad, err))
		return
	}
	err = s.db.View(func(tx *kv.Tx) error {
		c := tx.Cursor()
		defer c.Close()
		for ok := c.Seek(start); ok; ok = c.Next() {
			key := c.Key()
			if !strings.HasPrefix(string(key), string(prefix)) {
				break
			}
			if len(p.Rows) == pageKeys {
				p.Next = keyID(key)
				break
			}
			p.Rows = append(p.Rows, newRow(c))
		}
		return c.Err()
	})
	if err != nil {
		p.Fault = err.Error()
	}
	p.Keys = s.db.Metrics().Keys
	render(w, "list", p)
}

// previewBytes is how many bytes of a value a list shows.
const previewBytes = 80

func newRow(c *kv.Cursor) row {
	value := c.Value()
	row := row{Key: append([]byte(nil), c.Key()...), Shown: quote(c.Key()), Bytes: len(value)}
	row.Preview = strings.ReplaceAll(quote(value[:min(len(value), previewBytes)]), `\\`, `\`) // to be read, not typed
	if len(value) > previewBytes {
		row.Preview += " …"
	}
	if t := c.Expiry(); !t.IsZero() {
		row.Expires = t.UTC().Format(time.RFC3339)
	}
	return row
}

// keyPage shows a value.
type keyPage struct {
	base
	Key     []byte
	Shown   string
	Form    string   // text, json or hex
	Forms   []string // that the value has
	Bytes   int
	Value   string
	Cut     bool
	Expires string
}

// shownBytes is how many bytes of a value a page shows. The rest can be downloaded.
const shownBytes = 64 << 10

func (s *Server) show(w http.ResponseWriter, r *http.Request) {
	key, err := keyOf(r.FormValue("k"))
	if err != nil {
		fail(w, fmt.Errorf("%w: %w", errBad, err))
		return
	}
	p := keyPage{base: s.base(), Key: key, Shown: quote(key), Form: r.FormValue("as")}
	err = s.db.View(func(tx *kv.Tx) error {
		value, err := tx.Get(key)
		if err != nil {
			return err
		}
		expiry, err := tx.Expiry(key)
		if err == nil && !expiry.IsZero() {
			p.Expires = expiry.UTC().Format(time.RFC3339)
		}
		p.Bytes, p.Cut = len(value), len(value) > shownBytes
		p.Form, p.Forms, p.Value = formatted(value, p.Form)
		return err
	})
	if err != nil {
		fail(w, err)
		return
	}
	render(w, "key", p)
}

// raw sends a value as a download.
func (s *Server) raw(w http.ResponseWriter, r *http.Request) {
	key, err := keyOf(r.FormValue("k"))
	if err != nil {
		fail(w, fmt.Errorf("%w: %w", errBad, err))
		return
	}
	err = s.db.View(func(tx *kv.Tx) error {
		value, err := tx.Get(key)
		if err != nil {
			return err
		}
		w.Header().Set("Content-Type", "application/octet-stream")
		w.Header().Set("Content-Disposition", `attachment; filename="value"`)
		w.Header().Set("Content-Length", fmt.Sprint(len(value)))
		_, _ = w.Write(value) // the client may have gone
		return nil
	})
	if err != nil {
		fail(w, err)
	}
}

func (s *Server) statsJSON(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(s.db.Metrics()) // the client may have gone
}
