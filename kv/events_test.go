package kv

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"nvkv/internal/effort"
	"nvkv/nvmap"
)

// told is a handler that keeps the records of a store.
type told struct {
	slog.Handler
	mu      sync.Mutex
	records []slog.Record
}

func newTold() *told { return &told{Handler: slog.DiscardHandler} }

func (h *told) Enabled(context.Context, slog.Level) bool { return true }

func (h *told) Handle(_ context.Context, r slog.Record) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.records = append(h.records, r.Clone())
	return nil
}

// find returns the records with a message, each as its level and the values of its attributes.
func (h *told) find(message string) (found []map[string]slog.Value) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, r := range h.records {
		if r.Message == message {
			m := map[string]slog.Value{"level": slog.AnyValue(r.Level)}
			r.Attrs(func(a slog.Attr) bool { m[a.Key] = a.Value; return true })
			found = append(found, m)
		}
	}
	return found
}

func TestEventCheckpointAndGrowth(t *testing.T) {
	h := newTold()
	db := openTest(t, "", &Options{Device: "mem", Logger: slog.New(h)})
	must(t, db.Put([]byte("large"), make([]byte, 4<<20)))
	must(t, db.Checkpoint(t.Context()))
	if got := h.find("checkpoint"); len(got) == 0 || got[0]["level"].Any() != slog.LevelDebug || got[0]["took"].Duration() <= 0 {
		t.Errorf("checkpoint: %v", got)
	}
	got := h.find("growth")
	if len(got) == 0 || got[0]["to_bytes"].Int64() < 4<<20 || got[0]["from_bytes"].Int64() >= 4<<20 {
		t.Errorf("growth: %v", got)
	}
	if end := got[len(got)-1]["to_bytes"].Int64(); end != db.m.Size() {
		t.Errorf("the last growth ended at %d, the store has %d bytes", end, db.m.Size())
	}
	must(t, db.Checkpoint(t.Context()))
	if n := len(h.find("growth")); n != len(got) {
		t.Errorf("%d growths without growth", n-len(got))
	}
}

func TestEventFull(t *testing.T) {
	h := newTold()
	db := openTest(t, "", &Options{Device: "mem", MaxBytes: 8 << 20, Logger: slog.New(h), sweepEvery: effort.Hang})
	refused := uint64(0)
	for refused < 3 {
		switch err := db.Put([]byte{byte(refused)}, make([]byte, 32<<20)); {
		case full(err):
			refused++
		default:
			t.Fatalf("a value larger than the store: %v", err)
		}
	}
	must(t, db.Put([]byte("k"), nil)) // fits
	must(t, db.Close())
	told := uint64(0)
	for _, r := range h.find("full") {
		if r["level"].Any() != slog.LevelWarn {
			t.Errorf("full: %v", r)
		}
		told += r["refused"].Uint64()
	}
	if n := len(h.find("full")); told != refused || n > 2 {
		t.Errorf("%d messages tell of %d refused calls, %d were", n, told, refused)
	}
}

func TestEventFailed(t *testing.T) {
	h := newTold()
	sim := nvmap.NewSim(nvmap.NewMem(64 << 20))
	db, err := OpenDevice(sim, &Options{Logger: slog.New(h)})
	must(t, err)
	must(t, db.Put([]byte("k"), nil))
	sim.FailFence(1, errInjected)
	for range 3 {
		if err := db.Put([]byte("l"), nil); !errors.Is(err, ErrFailed) {
			t.Fatal(err)
		}
	}
	_ = db.Close()
	got := h.find("failed")
	if len(got) != 1 || got[0]["level"].Any() != slog.LevelError {
		t.Fatalf("failed: %v", got)
	}
	if err, _ := got[0]["error"].Any().(error); !errors.Is(err, errInjected) {
		t.Errorf("failed, with the error %v", err)
	}
}

func TestEventRecovery(t *testing.T) {
	path := filepath.Join(effort.Dir(t), "store")
	h := newTold()
	db, err := Open(path, &Options{Logger: slog.New(h)})
	must(t, err)
	for i := range 100 {
		must(t, db.Put([]byte{byte(i)}, nil))
	}
	dead := nvmap.NewMem(64 << 20)
	medium := bytes.Clone(db.m.View(0, int(db.m.Size())))
	must(t, dead.Grow(int64(len(medium))))
	must(t, dead.Write(0, medium))
	must(t, db.Close())
	db, err = Open(path, &Options{Logger: slog.New(h)})
	must(t, err)
	must(t, db.Close())
	if got := h.find("recovery"); len(got) != 0 {
		t.Errorf("a new store and a closed one told of a recovery: %v", got)
	}
	db, err = OpenDevice(dead, &Options{Logger: slog.New(h)})
	must(t, err)
	must(t, db.Close())
	got := h.find("recovery")
	if len(got) != 1 || got[0]["level"].Any() != slog.LevelInfo || got[0]["records"].Int64() != 100 || got[0]["took"].Duration() <= 0 {
		t.Errorf("recovery: %v", got)
	}
}

// TestEventDamage rots a record that a recovery replays, so that the opening meets it.
func TestEventDamage(t *testing.T) {
	db := openTest(t, "", &Options{Device: "mem"})
	must(t, db.Put([]byte("k"), bytes.Repeat([]byte("rotten "), 10)))
	must(t, db.Put([]byte("l"), nil))
	medium := bytes.Clone(db.m.View(0, int(db.m.Size())))
	medium[bytes.Index(medium, []byte("rotten rotten"))] ^= 1
	dead := nvmap.NewMem(64 << 20)
	must(t, dead.Grow(int64(len(medium))))
	must(t, dead.Write(0, medium))
	h := newTold()
	again, err := OpenDevice(dead, &Options{Logger: slog.New(h)})
	must(t, err)
	must(t, again.Close())
	if got := h.find("recovery met damage"); len(got) != 1 || got[0]["level"].Any() != slog.LevelWarn {
		t.Errorf("damage: %v", got)
	}
	if got := h.find("recovery"); len(got) != 1 || got[0]["damage"].Int64() != 1 {
		t.Errorf("recovery: %v", got)
	}
	if got := slices.Concat(h.find("failed"), h.find("full")); len(got) != 0 {
		t.Errorf("%v", got)
	}
}
