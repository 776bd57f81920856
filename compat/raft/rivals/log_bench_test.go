package rivals

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
	wal "github.com/hashicorp/raft-wal"
	nvkvraft "nvkv/compat/raft"
)

var dir = flag.String("dir", "", "where the stores lie; default: the directory for temporary files")

type store interface {
	raft.LogStore
	Close() error
}

// stores lists the stores in the order in which a benchmark runs them.
var stores = []struct {
	name string
	open func(dir string) (store, error)
}{
	{"nvkv", func(d string) (store, error) { return nvkvraft.Open(filepath.Join(d, "raft.nv"), nil) }},
	{"boltdb", func(d string) (store, error) { return raftboltdb.NewBoltStore(filepath.Join(d, "raft.db")) }},
	{"wal", func(d string) (store, error) { return wal.Open(d) }},
}

func each(b *testing.B, fn func(b *testing.B, s store)) {
	for _, e := range stores {
		b.Run(e.name, func(b *testing.B) {
			d := *dir
			if d == "" {
				d = b.TempDir()
			} else {
				d = filepath.Join(d, fmt.Sprintf("rivals-%s-%d", e.name, rand.Uint64()))
				mkdir(b, d)
			}
			s, err := e.open(d)
			if err != nil {
				b.Fatal(err)
			}
			defer s.Close()
			fn(b, s)
		})
	}
}

// entries returns n entries of size bytes from index on.
func entries(index uint64, n, size int) []*raft.Log {
	data := make([]byte, n*size)
	r := rand.NewChaCha8([32]byte{})
	_, _ = r.Read(data)
	now := time.Now()
	logs := make([]*raft.Log, n)
	for i := range logs {
		logs[i] = &raft.Log{Index: index + uint64(i), Term: 1, Data: data[i*size:][:size], AppendedAt: now}
	}
	return logs
}

func BenchmarkAppend(b *testing.B) {
	for _, n := range []int{1, 64} {
		b.Run(fmt.Sprintf("%dx256B", n), func(b *testing.B) {
			each(b, func(b *testing.B, s store) {
				logs := entries(1, n, 256)
				for b.Loop() {
					if err := s.StoreLogs(logs); err != nil {
						b.Fatal(err)
					}
					for _, l := range logs {
						l.Index += uint64(n)
					}
				}
			})
		})
	}
}

// BenchmarkSteady appends as a node does that takes snapshots: of each 18,432 entries the lowest
// 8,192 are deleted.
func BenchmarkSteady(b *testing.B) {
	for _, n := range []int{1, 64} {
		b.Run(fmt.Sprintf("%dx256B", n), func(b *testing.B) {
			each(b, func(b *testing.B, s store) {
				first := uint64(1)
				if err := s.StoreLogs(entries(1, 10240, 256)); err != nil {
					b.Fatal(err)
				}
				logs := entries(10241, n, 256)
				for b.Loop() {
					if err := s.StoreLogs(logs); err != nil {
						b.Fatal(err)
					}
					for _, l := range logs {
						l.Index += uint64(n)
					}
					if logs[0].Index-first >= 18432 {
						if err := s.DeleteRange(first, first+8191); err != nil {
							b.Fatal(err)
						}
						first += 8192
					}
				}
			})
		})
	}
}

func BenchmarkGetLog(b *testing.B) {
	each(b, func(b *testing.B, s store) {
		const n = 10000
		if err := s.StoreLogs(entries(1, n, 256)); err != nil {
			b.Fatal(err)
		}
		r := rand.New(rand.NewPCG(1, 2))
		for b.Loop() {
			if err := s.GetLog(1+r.Uint64N(n), new(raft.Log)); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkDeleteRange deletes the lowest 1,000 of 2,000 entries; storing them is not counted.
func BenchmarkDeleteRange(b *testing.B) {
	each(b, func(b *testing.B, s store) {
		next, first := uint64(1), uint64(1)
		for b.Loop() {
			b.StopTimer()
			for next < first+2000 {
				if err := s.StoreLogs(entries(next, 1000, 256)); err != nil {
					b.Fatal(err)
				}
				next += 1000
			}
			b.StartTimer()
			if err := s.DeleteRange(first, first+999); err != nil {
				b.Fatal(err)
			}
			first += 1000
		}
	})
}
