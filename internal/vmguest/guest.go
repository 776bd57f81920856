package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"nvkv/kv"
	"nvkv/nvmap"
)

// guest is one run on one store.
type guest struct {
	name, path, kind string // kind: the kind of device that must be detected; "" for any
	acked            int    // operations that must have survived
	operations       int    // operations to do before closing; 0: no end
	pause            time.Duration
	out              io.Writer
}

// options makes checkpoints and growth frequent, so that power failures hit them too.
func (g *guest) options() *kv.Options {
	return &kv.Options{SlabBytes: 8192, CheckpointBytes: 64 << 10}
}

// run opens the store, judges it, and writes until it is killed or has done its operations.
func (g *guest) run() error {
	began := time.Now()
	db, err := kv.Open(g.path, g.options())
	if err != nil {
		return err
	}
	defer db.Close()
	if kind := db.Info().Kind; g.kind != "" && kind != g.kind {
		return fmt.Errorf("%s was taken for a device of kind %s, not %s", g.path, kind, g.kind)
	}
	n, err := g.judge(db, g.acked+inFlightMax)
	if err != nil {
		return err
	}
	m := db.Metrics()
	g.say("@@ PASS %s-recovered kind %s: %d operations acknowledged, %d there, %d records replayed, %d void, %d ms\n",
		g.name, db.Info().Kind, g.acked, n, m.RecordsReplayed, m.RecordsVoid, time.Since(began).Milliseconds())
	for i := n; g.operations == 0 || i < n+g.operations; i++ {
		if err := operation(g.name, i).write(db); err != nil {
			return fmt.Errorf("operation %d: %w", i, err)
		}
		g.say("ack %s %d;\n", g.name, i+1)
		time.Sleep(g.pause)
	}
	return g.reopen(db, n+g.operations)
}

func (g *guest) say(format string, args ...any) { fmt.Fprintf(g.out, format, args...) }

// reopen closes the store and opens it again. It must hold exactly n operations.
func (g *guest) reopen(db *kv.DB, n int) error {
	if err := db.Close(); err != nil {
		return fmt.Errorf("close: %w", err)
	}
	again, err := kv.Open(g.path, g.options())
	if err != nil {
		return fmt.Errorf("after a close: %w", err)
	}
	defer again.Close()
	g.acked = n
	if _, err := g.judge(again, n); err != nil {
		return fmt.Errorf("after a close: %w", err)
	}
	g.say("@@ PASS %s-closed %d operations there\n", g.name, n)
	return again.Close()
}

// blank writes zeros over the first and the last MiB of a device of fixed size, because a new store
// is made only where both are zero. The bytes in between stay, and must never be taken for records.
func (g *guest) blank() error {
	d, err := nvmap.OpenDevice(g.path, nvmap.OpenOptions{})
	if err != nil {
		return err
	}
	defer d.Close()
	zeros := make([]byte, 1<<20)
	for _, off := range []int64{0, d.Size() - int64(len(zeros))} {
		if err := d.Write(nvmap.Off(off), zeros); err != nil {
			return err
		}
	}
	return d.Fence()
}

// inFlightMax bounds the acknowledgements that the console may have lost: its buffers hold a few
// KiB.
const inFlightMax = 5000

// judge returns the number of operations that the store holds. They must be a prefix of all
// operations, at least the acknowledged ones and no more than most.
func (g *guest) judge(db *kv.DB, most int) (int, error) {
	got, err := contents(db)
	if err != nil {
		return 0, err
	}
	m := model{}
	for n := range g.acked {
		m.apply(operation(g.name, n))
	}
	first := difference(got, m)
	n := g.acked
	for diff := first; diff != ""; diff = difference(got, m) {
		if n == most {
			return 0, fmt.Errorf("%d operations were acknowledged, and the store holds no state from there on; against that one: %s", g.acked, first)
		}
		m.apply(operation(g.name, n))
		n++
	}
	return n, check(db)
}

// check returns the findings of Check as an error.
func check(db *kv.DB) error {
	var found []error
	err := db.Check(context.Background(), func(i kv.CheckIssue) { found = append(found, errors.New(i.String())) })
	return errors.Join(append(found, err)...)
}
