package kv

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"
)

// How long it takes until a store answers its first Get, after it was closed or after its process
// was killed in the middle of random updates. A child process loads NVKV_BENCH_RECORDS records,
// updates random ones for two checkpoint intervals and then until NVKV_BENCH_FILL percent (90) of
// the next interval is written, and kills itself with SIGKILL. So a recovery reads nearly the most
// that it can.
const (
	reopenPathEnv  = "NVKV_REOPEN_PATH"
	reopenCloseEnv = "NVKV_REOPEN_CLOSE"
)

// reopenChild prepares a store and ends, by SIGKILL unless it is to close the store.
func reopenChild(path string) error {
	db, err := Open(path, nil)
	if err != nil {
		return err
	}
	keys := benchKeys(benchRecords())
	value := make([]byte, benchValueBytes)
	batch := db.NewBatch()
	for i, k := range keys {
		batch.Put(k, value)
		if batch.Len() == 1000 || i == len(keys)-1 {
			if err := db.Write(batch); err != nil {
				return err
			}
			batch.Reset()
		}
	}
	if err := reopenUpdates(db, keys, value); err != nil {
		return err
	}
	if os.Getenv(reopenCloseEnv) != "" {
		return db.Close()
	}
	self, err := os.FindProcess(os.Getpid())
	if err != nil {
		return err
	}
	return self.Kill()
}

func reopenUpdates(db *DB, keys [][]byte, value []byte) error {
	fill, err := strconv.Atoi(os.Getenv("NVKV_BENCH_FILL"))
	if err != nil {
		fill = 90
	}
	rng := rand.New(rand.NewPCG(3, 4))
	interval := db.opt.CheckpointBytes
	for written := int64(0); ; {
		if err := db.Put(keys[rng.IntN(len(keys))], value); err != nil {
			return err
		}
		written += benchValueBytes
		if written < 2*interval || db.checkpoints.freezing.Load() != nil {
			continue
		}
		if since := db.sinceCheckpoint; since >= interval*int64(fill)/100 && since < interval {
			return nil
		}
	}
}

func prepareReopen(b *testing.B, closed bool) (path string) {
	b.Helper()
	path = filepath.Join(benchDir(b), "s")
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), reopenPathEnv+"="+path)
	if closed {
		cmd.Env = append(cmd.Env, reopenCloseEnv+"=1")
	}
	out, err := cmd.CombinedOutput()
	if (err == nil) != closed || len(out) > 0 {
		b.Fatalf("the child: %v: %s", err, out)
	}
	return path
}

// reopened is the time that an opening took.
type reopened struct {
	recovered
	first  time.Duration // until the first Get answered
	opened time.Duration // until Open returned
	whole  time.Duration // until a snapshot could be taken
}

// reopen opens a store, reads one record, and leaves the store as it found it: closed, or dropped
// as by a crash.
func reopen(b *testing.B, path string, closed bool, m *reopened) {
	began := time.Now()
	db, err := Open(path, nil)
	if err != nil {
		b.Fatal(err)
	}
	if _, err := db.Get(benchKey(nil, benchRecords()/2)); err != nil {
		b.Fatal(err)
	}
	took := time.Since(began)
	b.StopTimer()
	opened := db.recovered.took
	if err := db.View(func(*Tx) error { return nil }); err != nil { // waits for the replay
		b.Fatal(err)
	}
	whole := time.Since(began)
	*m = reopened{recovered: db.recovered, first: took, opened: opened, whole: whole}
	if !closed {
		abandon(db)
	} else if err := db.Close(); err != nil {
		b.Fatal(err)
	}
	b.StartTimer()
}

func benchReopen(b *testing.B, closed bool) {
	path := prepareReopen(b, closed)
	var m, sum reopened
	first := time.Duration(0)
	for b.Loop() {
		reopen(b, path, closed, &m)
		if first == 0 {
			first = m.first
		}
		sum.opened += m.opened
		sum.whole += m.whole
	}
	mean := func(d time.Duration) float64 { return d.Seconds() * 1e3 / float64(b.N) }
	b.ReportMetric(float64(first.Microseconds())/1e3, "ms/first")
	b.ReportMetric(mean(b.Elapsed()), "ms/get")
	b.ReportMetric(mean(sum.opened), "ms/open")
	b.ReportMetric(mean(sum.whole), "ms/replayed")
	b.ReportMetric(float64(m.replayed), "replayed")
	b.ReportMetric(float64(m.scanned)/(1<<20), "MiB-scanned")
}

// BenchmarkReopenKilled opens a store whose process was killed.
func BenchmarkReopenKilled(b *testing.B) { benchReopen(b, false) }

// BenchmarkReopenClean opens a store that was closed.
func BenchmarkReopenClean(b *testing.B) { benchReopen(b, true) }

// runReopenChild is called by TestMain.
func runReopenChild(path string) {
	if err := reopenChild(path); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}
