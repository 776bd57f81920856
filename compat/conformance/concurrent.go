package conformance

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"nvkv/compat"
)

var concurrentCases = []testCase{
	{"ConcurrentWriters", concurrentWriters},
	{"ConcurrentReadersAndWriters", concurrentReadersAndWriters},
	{"ConcurrentSnapshots", concurrentSnapshots},
	{"Linearizable", linearizable},
	{"CloseWhileBusy", closeWhileBusy},
}

func concurrentWriters(s *store) {
	const writers, each = 4, 100
	want := make(map[string]string)
	for w := range writers {
		for i := range each {
			if i%10 != 9 {
				want[fmt.Sprint(w, "-", i)] = fmt.Sprint(i)
			}
		}
	}
	var group sync.WaitGroup
	for w := range writers {
		group.Go(func() {
			for i := range each {
				if err := writeOne(s, w, i); err != nil {
					s.Errorf("writer %d, write %d: %v", w, i, err)
				}
			}
		})
	}
	group.Wait()
	s.wantAll(s, want)
	s.reopen()
	s.wantAll(s, want)
}

// writeOne stores entry i of writer w, with each write method in turn, and deletes the keys that
// end in 9.
func writeOne(s *store, w, i int) error {
	key, value := fmt.Sprint(w, "-", i), fmt.Sprint(i)
	if i%2 == 0 {
		return s.Put([]byte(key), []byte(value))
	}
	if err := s.WriteBatch([]compat.Op{putOp(key, "replaced"), putOp(key, value)}); err != nil {
		return err
	}
	if i%10 == 9 {
		return s.Delete([]byte(key))
	}
	return nil
}

// concurrentReadersAndWriters has writers that store under each key only values made from it, and
// readers that check this.
func concurrentReadersAndWriters(s *store) {
	const keys, rounds = 8, 40
	valueOf := func(key, round int) string {
		return fmt.Sprintf("%d:%s", key, pattern(20*(round%40), uint64(key)))
	}
	made := func(key int, value []byte) bool {
		for round := range 40 {
			if string(value) == valueOf(key, round) {
				return true
			}
		}
		return false
	}
	for key := range keys {
		s.put(fmt.Sprint(key), valueOf(key, 0))
	}
	var writing atomic.Bool
	writing.Store(true)
	var readers, writers sync.WaitGroup
	for r := range 2 {
		readers.Go(func() {
			var dst []byte
			for i := r; writing.Load(); i++ {
				var err error
				dst, err = s.Get(dst[:0], fmt.Append(nil, i%keys))
				if err != nil || !made(i%keys, dst) {
					s.Errorf("key %d: %s, %v", i%keys, brief(string(dst)), err)
					return
				}
			}
		})
	}
	for w := range 2 {
		writers.Go(func() {
			for round := range rounds {
				for key := w; key < keys; key += 2 {
					if err := s.Put(fmt.Append(nil, key), []byte(valueOf(key, round))); err != nil {
						s.Errorf("key %d: %v", key, err)
					}
				}
			}
		})
	}
	writers.Wait()
	writing.Store(false)
	readers.Wait()
}

// concurrentSnapshots checks that a snapshot gives the same answers twice while others write.
func concurrentSnapshots(s *store) {
	numbered(s, 50)
	var writing atomic.Bool
	writing.Store(true)
	var readers sync.WaitGroup
	for range 2 {
		readers.Go(func() {
			for writing.Load() {
				checkStill(s)
			}
		})
	}
	for i := range 100 {
		s.put(fmt.Sprintf("%06d", i%100), fmt.Sprint(i))
		s.del(fmt.Sprintf("%06d", (i*7)%100))
	}
	writing.Store(false)
	readers.Wait()
}

func checkStill(s *store) {
	r, err := s.Snapshot()
	if err != nil {
		s.Errorf("Snapshot: %v", err)
		return
	}
	defer r.Close()
	digest := func() string {
		var d []byte
		err := r.Scan(nil, -1, func(key, value []byte) bool {
			d = fmt.Appendf(d, "%s=%s ", key, value)
			return true
		})
		if err != nil {
			s.Errorf("Scan: %v", err)
		}
		return string(d)
	}
	if first, second := digest(), digest(); first != second {
		s.Errorf("a snapshot moved from %s to %s", brief(first), brief(second))
	}
}

// closeWhileBusy closes the engine during calls. Each call must succeed or return ErrClosed, and
// the successful writes must be there afterwards.
func closeWhileBusy(s *store) {
	const writers = 3
	engine := s.Engine
	var acknowledged [writers]atomic.Int64
	var group sync.WaitGroup
	for w := range writers {
		group.Go(func() {
			for i := int64(0); ; i++ {
				err := engine.Put(fmt.Appendf(nil, "%d-%d", w, i), fmt.Append(nil, i))
				if errors.Is(err, compat.ErrClosed) {
					return
				}
				if err != nil {
					s.Errorf("Put beside Close: %v", err)
					return
				}
				acknowledged[w].Store(i + 1)
			}
		})
	}
	group.Go(func() { readUntilClosed(s, engine) })
	for acknowledged[0].Load() < 20 {
		if s.Failed() {
			break
		}
		_, err := engine.Get(nil, []byte("0-0"))
		if err != nil && !errors.Is(err, compat.ErrNotFound) {
			s.Errorf("Get: %v", err)
		}
	}
	s.must(engine.Close())
	group.Wait()
	s.openAgain()
	for w := range writers {
		for i := range acknowledged[w].Load() {
			s.want(s, fmt.Sprintf("%d-%d", w, i), fmt.Sprint(i))
		}
	}
}

func readUntilClosed(s *store, engine compat.Engine) {
	for {
		err := engine.Scan(nil, 10, func(_, _ []byte) bool { return true })
		if errors.Is(err, compat.ErrClosed) {
			return
		}
		if err != nil {
			s.Errorf("Scan beside Close: %v", err)
			return
		}
		r, err := engine.Snapshot()
		if errors.Is(err, compat.ErrClosed) {
			return
		}
		if err != nil {
			s.Errorf("Snapshot beside Close: %v", err)
			return
		}
		if err := r.Close(); err != nil {
			s.Errorf("Close of a snapshot beside Close: %v", err)
		}
	}
}
