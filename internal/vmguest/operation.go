package main

import (
	"bytes"
	"fmt"
	"hash/fnv"
	"maps"
	"math/rand/v2"

	"nvkv/kv"
)

// A change stores a value, or removes a key if value is nil.
type change struct {
	key   string
	value []byte
}

// An op is one durable step: a put, a delete, a batch, or the removal of a
// range. Operation n of a name is always the same.
type op struct {
	changes  []change
	from, to string // a range to remove instead; to is exclusive
}

// operation returns operation n of the store called name.
func operation(name string, n int) op {
	h := fnv.New64a()
	_, _ = h.Write([]byte(name))
	rng := rand.New(rand.NewPCG(h.Sum64(), uint64(n)))
	if rng.IntN(100) == 0 {
		at := rng.IntN(290)
		return op{from: key(at), to: key(at + 10)}
	}
	count := 1
	if rng.IntN(4) == 0 {
		count = 2 + rng.IntN(20)
	}
	o := op{changes: make([]change, count)}
	for i := range o.changes {
		o.changes[i].key = key(rng.IntN(300))
		if rng.IntN(4) == 0 {
			continue
		}
		size := rng.IntN(200)
		if rng.IntN(50) == 0 {
			size = 20000 // a run of pages
		}
		o.changes[i].value = fmt.Appendf(nil, "%s/%d/%d:%s", name, n, i, bytes.Repeat([]byte{'x'}, size))
	}
	return o
}

func key(i int) string { return fmt.Sprintf("key%03d", i) }

// write applies o to db. It is durable when write returns nil.
func (o op) write(db *kv.DB) error {
	switch {
	case o.to != "":
		return db.DeleteRange([]byte(o.from), []byte(o.to))
	case len(o.changes) > 1:
		b := db.NewBatch()
		for _, c := range o.changes {
			if c.value == nil {
				b.Delete([]byte(c.key))
			} else {
				b.Put([]byte(c.key), c.value)
			}
		}
		return db.Write(b)
	case o.changes[0].value == nil:
		return db.Delete([]byte(o.changes[0].key))
	}
	return db.Put([]byte(o.changes[0].key), o.changes[0].value)
}

// A model is the expected contents of a store.
type model map[string][]byte

func (m model) apply(o op) {
	maps.DeleteFunc(m, func(k string, _ []byte) bool { return o.from <= k && k < o.to })
	for _, c := range o.changes {
		if c.value == nil {
			delete(m, c.key)
		} else {
			m[c.key] = c.value
		}
	}
}

// contents reads the whole store through its iterator.
func contents(db *kv.DB) (model, error) {
	m := model{}
	err := db.View(func(tx *kv.Tx) error {
		for k, v := range tx.All(nil, nil) {
			m[string(k)] = bytes.Clone(v)
		}
		return tx.Err()
	})
	return m, err
}

// difference describes the first key on which two models disagree. It returns "" if there is none.
func difference(got, want model) string {
	for k, v := range want {
		if g, ok := got[k]; !ok || !bytes.Equal(g, v) {
			return fmt.Sprintf("%s is %s, want %s", k, clip(g), clip(v))
		}
	}
	for k, g := range got {
		if _, ok := want[k]; !ok {
			return fmt.Sprintf("%s is %s, want it absent", k, clip(g))
		}
	}
	return ""
}

// clip shortens a value for a message.
func clip(v []byte) string {
	if v == nil {
		return "absent"
	}
	return fmt.Sprintf("%q (%d bytes)", v[:min(len(v), 24)], len(v))
}
