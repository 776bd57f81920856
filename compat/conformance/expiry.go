package conformance

import (
	"time"

	"nvkv/compat"
)

var expiryCases = []testCase{
	{"Expiry", expiry},
	{"ExpiryRefused", expiryRefused},
}

// longAgo is a time in the past, and longFrom one that no test reaches.
var (
	longAgo  = time.Unix(1, 0)
	longFrom = time.Date(2200, 1, 2, 3, 4, 5, 6, time.UTC)
)

func expiry(s *store) {
	e, ok := s.Engine.(compat.Expirer)
	if !ok {
		s.Skip("the engine keeps no expiries")
	}
	s.put("gone", "v")
	s.must(e.PutUntil([]byte("gone"), []byte("v"), longAgo))
	s.must(e.PutUntil([]byte("later"), []byte("v"), longFrom))
	s.must(e.PutUntil([]byte("ever"), []byte("v"), time.Time{}))
	s.put("batch-gone", "v")
	s.write(
		compat.Op{Key: []byte("batch-gone"), Value: []byte("v"), Expiry: longAgo},
		compat.Op{Key: []byte("batch-later"), Expiry: longFrom},
		putOp("cleared", "v"), compat.Op{Key: []byte("cleared"), Value: []byte("v"), Expiry: longFrom}, putOp("cleared", "v"),
	)
	want := map[string]time.Time{"later": longFrom, "ever": {}, "batch-later": longFrom, "cleared": {}}
	s.wantAll(s, map[string]string{"later": "v", "ever": "v", "batch-later": "", "cleared": "v"})
	s.wantExpiries(e, want)
	snapshot, err := s.Snapshot()
	s.must(err)
	s.put("later", "")
	s.wantExpiries(snapshot.(compat.ExpiryReader), want)
	s.must(snapshot.Close())
	s.wantErr("Expiry of a closed snapshot", second(snapshot.(compat.ExpiryReader).Expiry(nil)), compat.ErrTxClosed)
	want["later"] = time.Time{}
	s.reopen()
	s.wantExpiries(s.Engine.(compat.Expirer), want)
}

func (s *store) wantExpiries(from compat.ExpiryReader, want map[string]time.Time) {
	s.Helper()
	got := map[string]time.Time{}
	s.must(from.ScanExpiry(nil, -1, func(key, _ []byte, expiry time.Time) bool {
		got[string(key)] = expiry
		return true
	}))
	if len(got) != len(want) {
		s.Errorf("%d entries, want %d", len(got), len(want))
	}
	for key, at := range want {
		one, err := from.Expiry([]byte(key))
		if s.must(err); !got[key].Equal(at) || !one.Equal(at) || one.IsZero() != at.IsZero() {
			s.Errorf("%q expires at %v by the scan, %v by itself; want %v", key, got[key], one, at)
		}
	}
	s.wantErr("Expiry of what has expired", second(from.Expiry([]byte("gone"))), compat.ErrNotFound)
	n := 0
	s.must(from.ScanExpiry([]byte("c"), 2, func([]byte, []byte, time.Time) bool { n++; return true }))
	s.must(from.ScanExpiry(nil, 0, func([]byte, []byte, time.Time) bool { n++; return true }))
	s.must(from.ScanExpiry(nil, -1, func([]byte, []byte, time.Time) bool { n++; return false }))
	if n != 3 {
		s.Errorf("%d entries in three scans, want 2, 0 and 1", n)
	}
}

func second(_ time.Time, err error) error { return err }

// expiryRefused checks that an engine that cannot keep an expiry returns an error.
func expiryRefused(s *store) {
	if _, ok := s.Engine.(compat.Expirer); ok {
		s.Skip("the engine keeps expiries")
	}
	err := s.WriteBatch([]compat.Op{putOp("a", "v"), {Key: []byte("k"), Value: []byte("v"), Expiry: longFrom}})
	s.wantErr("WriteBatch with an expiry", err, compat.ErrNoExpiry)
	s.wantAll(s, nil)
	s.write(compat.Op{Key: []byte("k"), Delete: true, Expiry: longFrom}) // a delete ignores it
}
