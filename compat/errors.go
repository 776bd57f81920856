package compat

import (
	"errors"
	"fmt"
	"strings"

	"nvkv/kv"
)

// These sentinel errors of engines are those of package kv.
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

// ErrEmptyKey is the error of bbolt and pebble for the empty key if they were opened with
// Options.RawKeys.
var ErrEmptyKey = errors.New("the empty key cannot be stored")

// engineError is an engine's own error with the sentinel for it. It unwraps to both.
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

// errorMap maps an engine's errors to sentinels. The first match counts.
type errorMap []struct{ from, to error }

// convert returns err as callers of the named engine get it.
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
