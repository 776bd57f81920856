package nvkvdatastore

import (
	"bytes"
	"context"
	"path"
	"sync"

	"github.com/ipfs/go-datastore/query"
	"nvkv/kv"
)

// Query returns what matches q, out of one state of the store. It reads as far as the results are
// read. Read them to their end or close them: until then they hold on to that state.
func (d *Datastore) Query(ctx context.Context, q query.Query) (query.Results, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	tx, err := d.db.Begin(false)
	if err != nil {
		return nil, err
	}
	return run(&search{ctx: ctx, tx: tx, own: true, lock: new(sync.Mutex)}, q), nil
}

// search is a query under way.
type search struct {
	ctx      context.Context
	tx       *kv.Tx
	own      bool        // tx ends with the query
	lock     *sync.Mutex // held while tx works
	cur      *kv.Cursor
	prefix   []byte
	backward bool
	begun    bool
	over     bool

	values, sizes, expiries bool // what entries are to have
}

// run starts a search. Orders that are not those of keys, and all that comes after them, are
// done by package query, in memory.
func run(s *search, q query.Query) query.Results {
	s.prefix = below(q.Prefix)
	s.values, s.sizes, s.expiries = !q.KeysOnly, q.ReturnsSizes, q.ReturnExpirations
	rest := query.Query{Filters: q.Filters, Orders: q.Orders, Offset: q.Offset, Limit: q.Limit}
	if len(q.Orders) > 0 {
		switch q.Orders[0].(type) {
		case query.OrderByKey, *query.OrderByKey:
			rest.Orders = nil // keys are distinct: no further order has a say
		case query.OrderByKeyDescending, *query.OrderByKeyDescending:
			rest.Orders, s.backward = nil, true
		default:
			s.values = true // the order may ask for them
		}
	}
	if len(q.Filters) > 0 {
		s.values = true
	}
	s.lock.Lock()
	s.cur = s.tx.Cursor()
	s.lock.Unlock() // NaiveQueryApply may read on in another goroutine
	found := query.ResultsFromIterator(q, query.Iterator{Next: s.next, Close: s.close})
	out := query.NaiveQueryApply(rest, found)
	if q.KeysOnly && s.values {
		out = keysOnly(q, out)
	}
	return out
}

// below returns what the keys below a prefix begin with: a prefix names a key, of which
// those below it are children.
func below(prefix string) []byte {
	p := path.Clean("/" + prefix)
	if p == "/" {
		return []byte(p)
	}
	return []byte(p + "/")
}

// keysOnly drops values that only filters and orders needed.
func keysOnly(q query.Query, from query.Results) query.Results {
	return query.ResultsFromIterator(q, query.Iterator{
		Next: func() (query.Result, bool) {
			r, ok := from.NextSync()
			r.Value = nil
			return r, ok
		},
		Close: from.Close,
	})
}

func (s *search) next() (query.Result, bool) {
	s.lock.Lock()
	defer s.lock.Unlock()
	if s.over {
		return query.Result{}, false
	}
	if err := s.ctx.Err(); err != nil {
		return s.failed(err), true
	}
	if ok := s.move(); ok {
		if key := s.cur.Key(); bytes.HasPrefix(key, s.prefix) {
			return query.Result{Entry: s.entry(key)}, true
		}
	}
	if err := s.cur.Err(); err != nil {
		return s.failed(err), true
	}
	_ = s.end()
	return query.Result{}, false
}

// failed ends the search with an error.
func (s *search) failed(err error) query.Result {
	_ = s.end()
	return query.Result{Error: err}
}

// move moves the cursor to the next key.
func (s *search) move() bool {
	switch begun := s.begun; {
	case begun && s.backward:
		return s.cur.Prev()
	case begun:
		return s.cur.Next()
	}
	s.begun = true
	if !s.backward {
		return s.cur.Seek(s.prefix)
	}
	end := bytes.Clone(s.prefix) // it ends in a slash
	end[len(end)-1]++
	return s.cur.SeekLT(end)
}

func (s *search) entry(key []byte) query.Entry {
	e := query.Entry{Key: string(key), Size: -1}
	if s.values || s.sizes {
		v := s.cur.Value()
		e.Size = len(v)
		if s.values {
			e.Value = append(make([]byte, 0, len(v)), v...)
		}
	}
	if s.expiries {
		e.Expiration = s.cur.Expiry()
	}
	return e
}

func (s *search) close() error {
	s.lock.Lock()
	defer s.lock.Unlock()
	return s.end()
}

// end ends the search. The caller holds lock.
func (s *search) end() error {
	if s.over {
		return nil
	}
	s.over = true
	err := s.cur.Close()
	if s.own {
		if e := s.tx.Rollback(); err == nil {
			err = e
		}
	}
	return err
}
