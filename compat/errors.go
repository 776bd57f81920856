package compat

import (
	"errors"
	"fmt"
	"strings"

	"nvkv/kv"
)

// The sentinels that engines answer with are those of package kv.
var (
	ErrNotFound      = kv.ErrNotFound
	ErrClosed        = kv.ErrClosed
	ErrReadOnly      = kv.ErrReadOnly
	ErrTxClosed      = kv.ErrTxClosed
	ErrKeyTooLarge   = kv.ErrKeyTooLarge
	ErrValueTooLarge = kv.ErrValueTooLarge
	ErrFull          = kv.ErrFull
	ErrLocked        = kv.ErrLocked
	ErrFailed        = kv.ErrFailed
	ErrCorrupt       = kv.ErrCorrupt
	ErrVersion       = kv.ErrVersion
	ErrNotStore      = kv.ErrNotStore
)

// ErrEmptyKey is what bbolt and pebble answer to the empty key when they were
// opened with Options.RawKeys.
var ErrEmptyKey = errors.New("the empty key cannot be stored")

// engineError is an engine's own error under the sentinel it stands for. It
// unwraps to both.
type engineError struct {
	engine   string
	sentinel error
	err      error
}

func (e *engineError) Error() string {
	meaning := strings.TrimPrefix(e.sentinel.Error(), "nvkv: ")
	if meaning == e.err.Error() {
		return e.engine + ": " + meaning
	}
	return fmt.Sprintf("%s: %s (%v)", e.engine, meaning, e.err)
}

func (e *engineError) Unwrap() []error { return []error{e.sentinel, e.err} }

// errorMap says which sentinel stands for which of an engine's errors. The
// first match counts.
type errorMap []struct{ from, to error }

// convert returns err as callers of the named engine see it.
func (m errorMap) convert(engine string, err error) error {
	if err == nil {
		return nil
	}
	for _, pair := range m {
		if errors.Is(err, pair.from) {
			return &engineError{engine, pair.to, err}
		}
	}
	return fmt.Errorf("%s: %w", engine, err)
}
