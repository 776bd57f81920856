package convert

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"
)

// ErrExists is the error of Run if the destination exists and Options.Force is not set.
var ErrExists = errors.New("exists already")

// ErrSameStore is the error of Run if making the destination would destroy the source.
var ErrSameStore = errors.New("is the source or has it inside")

// Options are the options of a conversion. The zero value never replaces an existing destination.
type Options struct {
	// Force replaces a destination that exists.
	Force bool

	// EmptyKey replaces the empty key in the destination. If it is empty, the empty key stays as it
	// is.
	EmptyKey []byte

	// Progress, if not nil, is called at the start and end of each phase and about every thousand
	// entries.
	Progress func(Progress)
}

// Progress describes the progress of a conversion.
type Progress struct {
	Phase string // "copy", then "verify"
	Done  int64  // entries done
	Total int64  // total entries; -1 if the source does not know
}

// A Result describes a completed conversion.
type Result struct {
	From          string  `json:"from"`
	To            string  `json:"to"`
	Entries       int64   `json:"entries"`
	KeyBytes      int64   `json:"key_bytes"`
	ValueBytes    int64   `json:"value_bytes"`
	Unended       int64   `json:"expiries_lost"` // entries that expire in the source and not in the destination, which keeps no expiries
	Checksum      string  `json:"checksum"`      // Digest.Checksum of the destination
	CopySeconds   float64 `json:"copy_seconds"`
	VerifySeconds float64 `json:"verify_seconds"`
}

// Run converts the store from into the store to. If it returns an error, to is unchanged.
func Run(ctx context.Context, from, to Location, opts Options) (result Result, err error) {
	if destroys(from, to) {
		return Result{}, fmt.Errorf("destination: %s: %w, %s", to, ErrSameStore, from)
	}
	stage, err := newStage(from, to, opts.Force)
	if err != nil {
		return Result{}, fmt.Errorf("destination: %w", err)
	}
	defer func() { err = errors.Join(err, stage.remove()) }()
	start := time.Now()
	wrote, unended, err := copyAll(ctx, from, stage.at, opts)
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
		Unended:       unended,
		Checksum:      read.Checksum(),
		CopySeconds:   copied.Sub(start).Seconds(),
		VerifySeconds: time.Since(copied).Seconds(),
	}, nil
}

// copyAll makes the store at to from the entries of from. It returns the digest of the written
// entries, and the number of expiries that to could not keep.
func copyAll(ctx context.Context, from, to Location, opts Options) (*Digest, int64, error) {
	source, err := from.Format.Open(from)
	if err != nil {
		return nil, 0, fmt.Errorf("source: %w", err)
	}
	defer source.Close() // the source is only read, so its error does not matter
	sink, err := to.Format.Create(to, opts.Force)
	if err != nil {
		return nil, 0, fmt.Errorf("destination: %w", err)
	}
	digest, unended, err := pour(ctx, source, sink, opts)
	if err != nil {
		sink.Abort()
		return nil, 0, err
	}
	if err := sink.Finish(); err != nil {
		sink.Abort()
		return nil, 0, fmt.Errorf("destination: %w", err)
	}
	return digest, unended, nil
}

// lastExpiry is the last time that nvkv can hold. A later expiry means that the entry never
// expires.
var lastExpiry = time.Unix(0, math.MaxInt64)

func pour(ctx context.Context, source Source, sink Sink, opts Options) (digest *Digest, unended int64, err error) {
	digest = NewDigest()
	report := opts.reporter("copy", source.Count())
	keeper, keeps := sink.(ExpirySink)
	var refused error
	now := time.Now()
	err = each(ctx, source, func(key, value []byte, expiry time.Time) error {
		switch {
		case expiry.IsZero():
		case expiry.After(lastExpiry):
			expiry = time.Time{}
		case !expiry.After(now):
			return nil // a text file may state an expiry in the past
		case !keeps:
			expiry = time.Time{}
			unended++
		}
		if len(key) == 0 && len(opts.EmptyKey) > 0 {
			key = opts.EmptyKey
		}
		digest.AddUntil(key, value, expiry)
		report(digest.Entries)
		if keeps {
			refused = keeper.PutUntil(key, value, expiry)
		} else {
			refused = sink.Put(key, value)
		}
		return refused
	})
	if refused != nil {
		return nil, 0, fmt.Errorf("destination: %w", refused)
	}
	if err != nil {
		return nil, 0, fmt.Errorf("source: %w", err)
	}
	return digest, unended, nil
}

// each yields the entries of any source with their expiries.
func each(ctx context.Context, source Source, fn func(key, value []byte, expiry time.Time) error) error {
	if s, ok := source.(ExpirySource); ok {
		return s.EachUntil(ctx, fn)
	}
	return source.Each(ctx, func(key, value []byte) error { return fn(key, value, time.Time{}) })
}

// digestOf returns the digest of a store.
func digestOf(ctx context.Context, l Location, opts Options, total int64) (digest *Digest, err error) {
	l.Expired = true
	source, err := l.Format.Open(l)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, source.Close()) }()
	digest = NewDigest()
	report := opts.reporter("verify", total)
	err = each(ctx, source, func(key, value []byte, expiry time.Time) error {
		digest.AddUntil(key, value, expiry)
		report(digest.Entries)
		return nil
	})
	return digest, err
}

// reporter returns a function that reports about every thousandth count.
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
