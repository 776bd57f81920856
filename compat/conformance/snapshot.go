package conformance

import (
	"fmt"
	"maps"

	"nvkv/compat"
)

var snapshotCases = []testCase{
	{"SnapshotUnmoved", snapshotUnmoved},
	{"SnapshotOfEmptyStore", snapshotOfEmptyStore},
	{"SnapshotsOfManyInstants", snapshotsOfManyInstants},
	{"SnapshotScan", snapshotScan},
	{"SnapshotClosed", snapshotClosed},
	{"SnapshotAtClose", snapshotAtClose},
}

func snapshotUnmoved(s *store) {
	before := map[string]string{"": "empty", "changed": "old", "deleted": "old", "same": "v"}
	for key, value := range before {
		s.put(key, value)
	}
	r := s.snapshot()
	defer r.Close()
	s.put("changed", "new")
	s.put("added", "new")
	s.del("deleted")
	s.write(putOp("", "new"), putOp("batched", "new"), deleteOp("same"), putOp("same", "new"))
	s.must(s.Flush())
	s.wantAll(r, before)
	s.wantAbsent(r, "added")
	s.wantAbsent(r, "batched")
	s.wantAll(s, map[string]string{"": "new", "added": "new", "batched": "new", "changed": "new", "same": "new"})
}

func snapshotOfEmptyStore(s *store) {
	r := s.snapshot()
	defer r.Close()
	s.put("k", "v")
	s.put("", "v")
	s.wantAll(r, nil)
	s.wantAbsent(r, "k")
	s.wantAbsent(r, "")
}

// snapshotsOfManyInstants closes its snapshots in an order that is neither that of opening nor its
// reverse, and checks the remaining ones after each.
func snapshotsOfManyInstants(s *store) {
	const instants = 12
	state := make(map[string]string)
	readers := make([]compat.Reader, instants)
	states := make([]map[string]string, instants)
	for i := range instants {
		for j := range 20 {
			key := fmt.Sprint((i*13 + j*7) % 50)
			if (i+j)%4 == 0 {
				s.del(key)
				delete(state, key)
				continue
			}
			state[key] = fmt.Sprint(i, "-", j)
			s.put(key, state[key])
		}
		readers[i], states[i] = s.snapshot(), maps.Clone(state)
	}
	open := make(map[int]bool)
	for i := range instants {
		open[i] = true
	}
	for i := range instants {
		for j := range open {
			s.wantAll(readers[j], states[j])
		}
		closing := i * 5 % instants
		s.must(readers[closing].Close())
		delete(open, closing)
	}
	s.wantAll(s, state)
}

func snapshotScan(s *store) {
	all := numbered(s, 100)
	r := s.snapshot()
	defer r.Close()
	for i := range 100 {
		s.del(all[i].key)
		s.put(fmt.Sprintf("%06d", 2*i+1), "new")
	}
	s.wantScan(r, nil, -1, all)
	s.wantScan(r, []byte("000051"), 5, all[26:31])
	s.wantScan(r, []byte("000050"), 0, nil)
	s.wantScan(r, []byte("x"), -1, nil)
}

func snapshotClosed(s *store) {
	s.put("k", "v")
	r := s.snapshot()
	s.want(r, "k", "v")
	s.must(r.Close())
	s.must(r.Close())
	dst, err := r.Get([]byte("dst"), []byte("k"))
	s.wantErr("Get on a closed snapshot", err, compat.ErrTxClosed)
	if string(dst) != "dst" {
		s.Errorf("Get on a closed snapshot left %q in dst", dst)
	}
	s.wantErr("Scan on a closed snapshot", r.Scan(nil, -1, neverCalled(s)), compat.ErrTxClosed)
	s.want(s, "k", "v")
}

// snapshotAtClose closes the engine while snapshots are open.
func snapshotAtClose(s *store) {
	s.put("k", "v")
	open, closed := s.snapshot(), s.snapshot()
	s.must(closed.Close())
	s.must(s.Engine.Close())
	for r, want := range map[compat.Reader]error{open: compat.ErrClosed, closed: compat.ErrTxClosed} {
		_, err := r.Get(nil, []byte("k"))
		s.wantErr("Get after the engine's Close", err, want)
		s.wantErr("Scan after the engine's Close", r.Scan(nil, -1, neverCalled(s)), want)
		s.must(r.Close())
	}
	s.openAgain()
	s.want(s, "k", "v")
}

func neverCalled(s *store) func(key, value []byte) bool {
	return func(key, _ []byte) bool {
		s.Errorf("fn was called with %s", brief(string(key)))
		return true
	}
}
