package convert

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// ErrExists is what Run answers when the destination exists and
// Options.Force is not set.
var ErrExists = errors.New("exists already")

// Options of a conversion. The zero value refuses what is doubtful.
type Options struct {
	// Force replaces a destination that exists.
	Force bool

	// EmptyKey is the key under which the empty key is stored; empty: as it is.
	EmptyKey []byte

	// Progress is told how far the conversion has come, at its start and end
	// and every thousand entries or so; nil: nobody is.
	Progress func(Progress)
}

// Progress is how far a conversion has come.
type Progress struct {
	Phase string // "copy", then "verify"
	Done  int64  // entries
	Total int64  // entries; -1 where the source does not know
}

// A Result is what a conversion did.
type Result struct {
	From          string  `json:"from"`
	To            string  `json:"to"`
	Entries       int64   `json:"entries"`
	KeyBytes      int64   `json:"key_bytes"`
	ValueBytes    int64   `json:"value_bytes"`
	Checksum      string  `json:"checksum"` // Digest.Checksum of the destination
	CopySeconds   float64 `json:"copy_seconds"`
	VerifySeconds float64 `json:"verify_seconds"`
}

// Run copies from to to. When it returns an error, to is as it was.
func Run(ctx context.Context, from, to Location, opts Options) (result Result, err error) {
	stage, err := newStage(to, opts.Force)
	if err != nil {
		return Result{}, fmt.Errorf("destination: %w", err)
	}
	defer func() { err = errors.Join(err, stage.remove()) }()
	start := time.Now()
	wrote, err := copyAll(ctx, from, stage.at, opts)
	if err != nil {
		return Result{}, err
	}
	copied := time.Now()
	read, err := digestOf(ctx, stage.at, opts, wrote.Entries)
	if err != nil {
		return Result{}, fmt.Errorf("verify: %w", err)
	}
	if err := wrote.matches(read); err != nil {
		return Result{}, fmt.Errorf("verify: %w", err)
	}
	if err := stage.publish(); err != nil {
		return Result{}, fmt.Errorf("destination: %w", err)
	}
	return Result{
		From:          from.String(),
		To:            to.String(),
		Entries:       read.Entries,
		KeyBytes:      read.KeyBytes,
		ValueBytes:    read.ValueBytes,
		Checksum:      read.Checksum(),
		CopySeconds:   copied.Sub(start).Seconds(),
		VerifySeconds: time.Since(copied).Seconds(),
	}, nil
}

// copyAll makes the store at to from the entries of from and returns what it
// wrote.
func copyAll(ctx context.Context, from, to Location, opts Options) (*Digest, error) {
	source, err := from.Format.Open(from)
	if err != nil {
		return nil, fmt.Errorf("source: %w", err)
	}
	defer source.Close() // reading has ended, well or not
	sink, err := to.Format.Create(to, opts.Force)
	if err != nil {
		return nil, fmt.Errorf("destination: %w", err)
	}
	digest, err := pour(ctx, source, sink, opts)
	if err != nil {
		sink.Abort()
		return nil, err
	}
	if err := sink.Finish(); err != nil {
		sink.Abort()
		return nil, fmt.Errorf("destination: %w", err)
	}
	return digest, nil
}

func pour(ctx context.Context, source Source, sink Sink, opts Options) (*Digest, error) {
	digest := NewDigest()
	report := opts.reporter("copy", source.Count())
	var refused error
	err := source.Each(ctx, func(key, value []byte) error {
		if len(key) == 0 && len(opts.EmptyKey) > 0 {
			key = opts.EmptyKey
		}
		digest.Add(key, value)
		report(digest.Entries)
		refused = sink.Put(key, value)
		return refused
	})
	if refused != nil {
		return nil, fmt.Errorf("destination: %w", refused)
	}
	if err != nil {
		return nil, fmt.Errorf("source: %w", err)
	}
	return digest, nil
}

// digestOf reads a store.
func digestOf(ctx context.Context, l Location, opts Options, total int64) (digest *Digest, err error) {
	source, err := l.Format.Open(l)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, source.Close()) }()
	digest = NewDigest()
	report := opts.reporter("verify", total)
	err = source.Each(ctx, func(key, value []byte) error {
		digest.Add(key, value)
		report(digest.Entries)
		return nil
	})
	return digest, err
}

// reporter returns a function that passes on every thousandth count or so.
func (o Options) reporter(phase string, total int64) func(done int64) {
	const every = 1 << 10
	if o.Progress == nil {
		return func(int64) {}
	}
	o.Progress(Progress{phase, 0, total})
	return func(done int64) {
		if done%every == 0 || done == total {
			o.Progress(Progress{phase, done, total})
		}
	}
}
