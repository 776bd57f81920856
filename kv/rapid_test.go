package kv

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"nvkv/nvmap"
)

// keptDevice allows several openings of one medium.
type keptDevice struct{ nvmap.Device }

// Close keeps the medium for the next opening.
func (keptDevice) Close() error { return nil }

// machine is a store with a model of it.
type machine struct {
	dev   nvmap.Device
	opt   Options
	db    *DB
	model model
	snaps []modelSnapshot
}

type modelSnapshot struct {
	tx    *Tx
	model model
}

// TestRapid lets rapid choose among all operations of a store, and shrink failures. It prints the
// seed of a failure.
func TestRapid(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) { testRapid(t, nvmap.NewMem(8<<20)) })
}

func testRapid(t *rapid.T, dev nvmap.Device) { testRapidWith(t, dev, Options{}) }

func testRapidWith(t *rapid.T, dev nvmap.Device, o Options) {
	o.SlabBytes = rapid.SampledFrom([]int{4096, 16 << 10}).Draw(t, "slab")
	m := &machine{
		dev:   dev,
		opt:   o,
		model: model{},
	}
	m.open(t)
	t.Repeat(map[string]func(*rapid.T){
		"put":         func(t *rapid.T) { m.single(t, "put") },
		"putTTL":      func(t *rapid.T) { m.single(t, "ttl") },
		"delete":      func(t *rapid.T) { m.single(t, "delete") },
		"deleteRange": func(t *rapid.T) { m.single(t, "range") },
		"conditional": m.conditional,
		"write":       m.write,
		"update":      m.update,
		"walk":        m.walk,
		"walkChanged": m.walkChanged,
		"checkpoint":  func(t *rapid.T) { noErr(t, m.db.Checkpoint(context.Background())) },
		"collect":     func(t *rapid.T) { noErr(t, m.db.collectExpired(context.Background(), 4)) },
		"reopen":      m.reopen,
		"snapshot":    m.snapshot,
		"endSnapshot": m.endSnapshot,
		"":            m.check,
	})
	m.reopen(t)
	m.check(t)
	noErr(t, m.db.Close())
}

func noErr(t *rapid.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (m *machine) open(t *rapid.T) {
	var err error
	m.db, err = OpenDevice(keptDevice{m.dev}, &m.opt)
	noErr(t, err)
}

func (m *machine) reopen(t *rapid.T) {
	for len(m.snaps) > 0 {
		m.endSnapshot(t)
	}
	noErr(t, clean(m.db))
	noErr(t, m.db.Close())
	m.open(t)
}

// check compares the store and its snapshots with their models.
func (m *machine) check(t *rapid.T) {
	noErr(t, m.db.View(func(tx *Tx) error { return sameAs(tx, m.model) }))
	for _, s := range m.snaps {
		noErr(t, sameAs(s.tx, s.model))
	}
}

// sameAs compares the state that a Tx sees with a model, in both directions and by Get.
func sameAs(tx *Tx, want model) error {
	var keys []string
	for k, v := range tx.All(nil, nil) {
		keys = append(keys, string(k))
		if string(v) != want[string(k)] {
			return fmt.Errorf("%.20q has %.20q, want %.20q", k, v, want[string(k)])
		}
	}
	if !slices.Equal(keys, want.keys()) {
		return fmt.Errorf("keys %.20q, want %.20q", keys, want.keys())
	}
	slices.Reverse(keys)
	var back []string
	for k := range tx.Backward(nil, nil) {
		back = append(back, string(k))
	}
	if !slices.Equal(back, keys) {
		return fmt.Errorf("backward %.20q, want %.20q", back, keys)
	}
	for _, k := range modelKeys {
		v, err := tx.Get([]byte(k))
		w, ok := want[k]
		if has, _ := tx.Has([]byte(k)); has != ok || ok != (err == nil) || ok && w != string(v) {
			return fmt.Errorf("Get(%.20q) = %.20q, %v; Has says %v; want %v %.20q", k, v, err, has, ok, w)
		}
	}
	return tx.Err()
}

// modelKeys is small, so that operations use the same keys. Some keys share a prefix longer than a
// page keeps, some continue in overflow pages, one is in runs with small slabs.
var modelKeys = func() []string {
	out := []string{"", "\x00", "\xff", "\xff\xff", strings.Repeat("k", 5000)}
	for i := range 12 {
		out = append(out, fmt.Sprint("key", i), strings.Repeat("p", 300)+fmt.Sprint(i%3), strings.Repeat("l", 1000)+fmt.Sprint(i%3))
	}
	slices.Sort(out)
	return slices.Compact(out)
}()

// operation is one change, for all kinds of writers.
type operation struct {
	kind     string
	key, end string
	open     bool // a range without an end
	value    string
	ttl      time.Duration
}

var modelValues = []int{0, 1, 30, 200, 3000, 9000}

func drawOp(t *rapid.T, kinds ...string) operation {
	if len(kinds) == 0 {
		kinds = []string{"put", "put", "put", "ttl", "delete", "range"}
	}
	o := operation{kind: rapid.SampledFrom(kinds).Draw(t, "kind"), key: rapid.SampledFrom(modelKeys).Draw(t, "key")}
	switch o.kind {
	case "range":
		o.end = rapid.SampledFrom(modelKeys).Draw(t, "end")
		o.open = rapid.IntRange(0, 7).Draw(t, "open") == 0
	case "ttl":
		o.ttl = rapid.SampledFrom([]time.Duration{-1, 0, 1, time.Hour, math.MaxInt64}).Draw(t, "ttl")
	}
	size := rapid.SampledFrom(modelValues).Draw(t, "size")
	o.value = strings.Repeat(fmt.Sprint(rapid.IntRange(0, 9).Draw(t, "digit")), size)
	return o
}

// apply changes a model like the operation changes a store. A time to live of a nanosecond has
// passed at the next read, except inside its own Tx.
func (o *operation) apply(m model, ownTx bool) {
	switch {
	case o.kind == "range":
		maps.DeleteFunc(m, func(k, _ string) bool { return k >= o.key && (o.open || k < o.end) })
	case o.kind == "delete", o.kind == "ttl" && (o.ttl <= 0 || o.ttl == 1 && !ownTx):
		delete(m, o.key)
	default:
		m[o.key] = o.value
	}
}

func (o *operation) endBytes() []byte {
	if o.open {
		return nil
	}
	return []byte(o.end)
}

// into does the operation on a Tx or a DB.
func (o *operation) into(w interface {
	Put(key, value []byte) error
	PutTTL(key, value []byte, ttl time.Duration) error
	Delete(key []byte) error
	DeleteRange(start, end []byte) error
}) error {
	switch o.kind {
	case "put":
		return w.Put([]byte(o.key), []byte(o.value))
	case "ttl":
		return w.PutTTL([]byte(o.key), []byte(o.value), o.ttl)
	case "delete":
		return w.Delete([]byte(o.key))
	}
	return w.DeleteRange([]byte(o.key), o.endBytes())
}

func (m *machine) single(t *rapid.T, kind string) {
	o := drawOp(t, kind)
	noErr(t, o.into(m.db))
	o.apply(m.model, false)
}

// conditional makes one conditional call, whose condition holds or not.
func (m *machine) conditional(t *rapid.T) {
	o := drawOp(t, "put", "delete")
	old, exists := m.model[o.key]
	if rapid.IntRange(0, 3).Draw(t, "other") == 0 {
		old += "x"
	}
	var met, want bool
	var err error
	switch {
	case o.kind == "put" && rapid.Bool().Draw(t, "absent"):
		want = !exists
		met, err = m.db.PutIfAbsent([]byte(o.key), []byte(o.value))
	case o.kind == "put":
		want = exists && old == m.model[o.key]
		met, err = m.db.CompareAndSwap([]byte(o.key), []byte(old), []byte(o.value))
	default:
		want = exists && old == m.model[o.key]
		met, err = m.db.CompareAndDelete([]byte(o.key), []byte(old))
	}
	noErr(t, err)
	if met != want {
		t.Fatalf("conditional %s of %.20q: %v, want %v", o.kind, o.key, met, want)
	}
	if met {
		o.apply(m.model, false)
	}
}

func (m *machine) write(t *rapid.T) {
	b := m.db.NewBatch()
	for range rapid.IntRange(0, 40).Draw(t, "ops") {
		o := drawOp(t)
		switch o.kind {
		case "put":
			b.Put([]byte(o.key), []byte(o.value))
		case "ttl":
			b.PutTTL([]byte(o.key), []byte(o.value), o.ttl)
		case "delete":
			b.Delete([]byte(o.key))
		default:
			b.DeleteRange([]byte(o.key), o.endBytes())
		}
		o.apply(m.model, false)
	}
	noErr(t, m.db.Write(b))
}

var errWanted = errors.New("wanted")

// update does some operations in a writable Tx, checks them from inside, and ends the Tx in one of
// the possible ways.
func (m *machine) update(t *rapid.T) {
	inside, after := maps.Clone(m.model), maps.Clone(m.model)
	change := func(tx *Tx) error {
		for range rapid.IntRange(0, 40).Draw(t, "ops") {
			o := drawOp(t)
			if err := o.into(tx); err != nil {
				return err
			}
			o.apply(inside, true)
			o.apply(after, false)
		}
		return sameAs(tx, inside)
	}
	switch how := rapid.SampledFrom([]string{"update", "commit", "error", "rollback"}).Draw(t, "how"); how {
	case "update":
		noErr(t, m.db.Update(change))
		m.model = after
	case "error":
		if err := m.db.Update(func(tx *Tx) error { return errors.Join(change(tx), errWanted) }); err == nil || err.Error() != errWanted.Error() {
			t.Fatal(err)
		}
	default:
		tx, err := m.db.Begin(true)
		noErr(t, err)
		defer func() { noErr(t, tx.Rollback()) }()
		noErr(t, change(tx))
		if how == "commit" {
			noErr(t, tx.Commit())
			m.model = after
		}
	}
}

func (m *machine) snapshot(t *rapid.T) {
	if len(m.snaps) == 3 {
		t.Skip("three snapshots are open")
	}
	tx, err := m.db.Begin(false)
	noErr(t, err)
	m.snaps = append(m.snaps, modelSnapshot{tx, maps.Clone(m.model)})
}

func (m *machine) endSnapshot(t *rapid.T) {
	if len(m.snaps) == 0 {
		t.Skip("no snapshot is open")
	}
	i := rapid.IntRange(0, len(m.snaps)-1).Draw(t, "which")
	noErr(t, sameAs(m.snaps[i].tx, m.snaps[i].model))
	noErr(t, m.snaps[i].tx.Rollback())
	m.snaps = slices.Delete(m.snaps, i, i+1)
}

func (m *machine) walk(t *rapid.T) {
	noErr(t, m.db.View(func(tx *Tx) error { return walkRandomly(t, tx, maps.Clone(m.model)) }))
}

// walkChanged walks a writable Tx while it changes, and rolls it back.
func (m *machine) walkChanged(t *rapid.T) {
	tx, err := m.db.Begin(true)
	noErr(t, err)
	defer func() { noErr(t, tx.Rollback()) }()
	noErr(t, walkRandomly(t, tx, maps.Clone(m.model)))
}

// walkRandomly compares a cursor with the rule for cursors: it has a position at a key, and the
// next key is the nearest one that exists when it moves.
func walkRandomly(t *rapid.T, tx *Tx, m model) error {
	c := tx.Cursor()
	defer c.Close()
	at, key, value := nowhere, "", ""
	motions := []string{"next", "next", "next", "prev", "prev", "prev", "first", "last", "seek", "seekLT"}
	if tx.w != nil {
		motions = append(motions, "change", "change", "change", "change")
	}
	// above and below return the key by the rule.
	find := func(keys []string, is func(string) bool, none place) {
		i := slices.IndexFunc(keys, is)
		if i < 0 {
			at, key, value = none, "", ""
			return
		}
		at, key, value = onKey, keys[i], m[keys[i]]
	}
	for range rapid.IntRange(1, 30).Draw(t, "motions") {
		up := m.keys()
		down := slices.Clone(up)
		slices.Reverse(down)
		any := func(string) bool { return true }
		motion := rapid.SampledFrom(motions).Draw(t, "motion")
		target := rapid.SampledFrom(modelKeys).Draw(t, "target")
		from := key
		switch motion {
		case "change":
			o := drawOp(t)
			if err := o.into(tx); err != nil {
				return err
			}
			o.apply(m, true)
		case "first":
			c.First()
			find(up, any, behindLast)
		case "last":
			c.Last()
			find(down, any, beforeFirst)
		case "seek":
			c.Seek([]byte(target))
			find(up, func(k string) bool { return k >= target }, behindLast)
		case "seekLT":
			c.SeekLT([]byte(target))
			find(down, func(k string) bool { return k < target }, beforeFirst)
		case "next":
			c.Next()
			switch at {
			case onKey:
				find(up, func(k string) bool { return k > from }, behindLast)
			case nowhere, beforeFirst:
				find(up, any, behindLast)
			}
		case "prev":
			c.Prev()
			switch at {
			case onKey:
				find(down, func(k string) bool { return k < from }, beforeFirst)
			case nowhere, behindLast:
				find(down, any, beforeFirst)
			}
		}
		if c.Err() != nil || c.Valid() != (at == onKey) || !bytes.Equal(c.Key(), []byte(key)) || !bytes.Equal(c.Value(), []byte(value)) {
			return fmt.Errorf("after %s the cursor stands on %.20q with %.20q (%v); want %.20q with %.20q (%d)", motion, c.Key(), c.Value(), c.Err(), key, value, at)
		}
	}
	return nil
}
