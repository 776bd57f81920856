package compat

import (
	"errors"
	"fmt"
	"strings"

	"nvkv/nvmap"
)

// The sentinels that engines answer with, for errors.Is.
var (
	ErrNotFound      = errors.New("nvkv: not found")
	ErrTxClosed      = errors.New("nvkv: transaction closed")
	ErrKeyTooLarge   = errors.New("nvkv: key too large")
	ErrValueTooLarge = errors.New("nvkv: value too large")
	ErrFailed        = errors.New("nvkv: failed")
	ErrCorrupt       = errors.New("nvkv: corrupt")
	ErrVersion       = errors.New("nvkv: version")
	ErrNotStore      = errors.New("nvkv: not a store")
	ErrClosed        = nvmap.ErrClosed
	ErrReadOnly      = nvmap.ErrReadOnly
	ErrFull          = nvmap.ErrFull
	ErrLocked        = nvmap.ErrLocked
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
