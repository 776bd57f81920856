package main

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"

	"nvkv/compat"
	"nvkv/kv"
)

// field is the only field of a record. Its bytes are the stored value.
const field = "field0"

// adapter makes an engine a database of go-ycsb. It counts failures, because go-ycsb only prints
// them.
type adapter struct {
	engine   compat.Engine
	failures atomic.Uint64
	missing  atomic.Uint64 // reads of absent keys
	first    sync.Once
	failure  error // the first one
}

func (a *adapter) fail(err error) error {
	if errors.Is(err, kv.ErrNotFound) {
		a.missing.Add(1)
		return nil
	}
	if err != nil {
		a.failures.Add(1)
		a.first.Do(func() { a.failure = err })
	}
	return err
}

func (a *adapter) Close() error                                             { return nil }
func (a *adapter) CleanupThread(context.Context)                            {}
func (a *adapter) InitThread(ctx context.Context, _, _ int) context.Context { return ctx }

func (a *adapter) Read(_ context.Context, _, key string, _ []string) (map[string][]byte, error) {
	value, err := a.engine.Get(nil, []byte(key))
	if err != nil {
		return nil, a.fail(err)
	}
	return map[string][]byte{field: value}, nil
}

func (a *adapter) Scan(_ context.Context, _, start string, n int, _ []string) ([]map[string][]byte, error) {
	rows := make([]map[string][]byte, 0, n)
	err := a.engine.Scan([]byte(start), n, func(_, value []byte) bool {
		rows = append(rows, map[string][]byte{field: append([]byte(nil), value...)})
		return true
	})
	return rows, a.fail(err)
}

func (a *adapter) Insert(_ context.Context, _, key string, values map[string][]byte) error {
	return a.fail(a.engine.Put([]byte(key), values[field]))
}

func (a *adapter) Update(ctx context.Context, table, key string, values map[string][]byte) error {
	return a.Insert(ctx, table, key, values)
}

func (a *adapter) Delete(_ context.Context, _, key string) error {
	return a.fail(a.engine.Delete([]byte(key)))
}

// nothing is an engine that does nothing. A run on it measures the cost of go-ycsb.
type nothing struct {
	compat.Engine // nil: go-ycsb calls nothing else
	value         []byte
}

func (n *nothing) Get(dst, _ []byte) ([]byte, error) { return append(dst, n.value...), nil }
func (n *nothing) Put(_, _ []byte) error             { return nil }
func (n *nothing) Flush() error                      { return nil }
func (n *nothing) Close() error                      { return nil }

func (n *nothing) Scan(start []byte, count int, fn func(key, value []byte) bool) error {
	for i := 0; i < count && fn(start, n.value); i++ {
	}
	return nil
}
