package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"nvkv/cmd/nvkv/internal/textrec"
	"nvkv/kv"
)

// loadBatchBytes bounds the keys and values of a batch, whatever --batch says.
const loadBatchBytes = 4 << 20

// maxKeyBytes is the longest key of a store.
const maxKeyBytes = 65535

// loader is one run of the command.
type loader struct {
	db   *kv.DB
	in   *input
	opt  loadOptions
	warn io.Writer

	batch   *kv.Batch
	sum     recordSum
	marked  bool  // a mark is in the store
	resumed int64 // records that an earlier load had put
	records int64 // good ones read
	stored  int64 // of those, in the store
	failed  bool  // the store has refused a batch
	line    int   // of the last of them
	bytes   int64 // of the keys and values put
	skipped int64 // bad records left out
	took    time.Duration
}

func (l *loader) run(ctx context.Context) error {
	started := time.Now()
	l.batch, l.sum = l.db.NewBatch(), newRecordSum()
	mark, err := readLoadMark(l.db)
	if err != nil {
		return err
	}
	l.marked = mark != nil
	if mark != nil && l.opt.resume {
		if err := l.pass(ctx, mark); err != nil {
			return fmt.Errorf("--resume: %w", err)
		}
	}
	err = l.putAll(ctx)
	if err == nil {
		err = l.finish()
	}
	if err != nil {
		return l.stopped(err)
	}
	l.took = time.Since(started)
	return nil
}

// pass reads over the records that mark says are in the store, and makes sure
// that they are those.
func (l *loader) pass(ctx context.Context, mark *loadMark) error {
	for l.records < mark.Records {
		err := l.next(ctx, func(key, value []byte) error { return nil })
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
	}
	if l.records != mark.Records || l.sum.hex() != mark.Sum {
		return fmt.Errorf("%s does not begin with the %s that the unfinished load of %s put; without --resume it is loaded from the start",
			l.in.name, plural(mark.Records, "record"), mark.Source)
	}
	l.resumed, l.stored = l.records, l.records
	return nil
}

func (l *loader) putAll(ctx context.Context) error {
	for {
		switch err := l.next(ctx, l.put); err {
		case nil:
		case io.EOF:
			return nil
		default:
			return err
		}
		if l.batch.Len() >= l.opt.batch || l.batch.Size() >= loadBatchBytes {
			if err := l.writeMarked(); err != nil {
				return err
			}
		}
	}
}

// next reads one record and hands it to use. A bad one is an error, or is told
// about and left out.
func (l *loader) next(ctx context.Context, use func(key, value []byte) error) error {
	if err := interrupted(ctx); err != nil {
		return err
	}
	key, value, err := l.in.records.Next()
	if err == nil {
		err = l.admit(key, value)
	}
	if err == nil {
		l.records++
		l.line = l.in.records.Line()
		l.sum.add(key, value)
		return use(key, value)
	}
	var bad *textrec.LineError
	if !errors.As(err, &bad) {
		if err == io.EOF {
			return err
		}
		return fmt.Errorf("%s: %w", l.in.name, err)
	}
	if !l.opt.skipBad {
		return fmt.Errorf("%s:%d: %w", l.in.name, bad.Line, bad.Err)
	}
	l.skipped++
	l.in.clearBar()
	fmt.Fprintf(l.warn, "%s:%d: %s; left out\n", l.in.name, bad.Line, oneLine(bad.Err))
	return nil
}

// admit refuses a record that no store takes.
func (l *loader) admit(key, value []byte) error {
	switch {
	case len(key) > maxKeyBytes:
		return &textrec.LineError{Line: l.in.records.Line(), Err: fmt.Errorf("a key of %d bytes: at most %d", len(key), maxKeyBytes)}
	case isLoadMark(key):
		return &textrec.LineError{Line: l.in.records.Line(), Err: fmt.Errorf("the key %q is the load's own", loadMarkKey)}
	}
	return nil
}

func (l *loader) put(key, value []byte) error {
	l.batch.Put(key, value)
	l.bytes += int64(len(key) + len(value))
	return nil
}

// writeMarked writes the batch and, with it, how far the load has come.
func (l *loader) writeMarked() error {
	m := loadMark{Source: l.in.name, Records: l.records, Line: l.line, Sum: l.sum.hex()}
	l.batch.Put([]byte(loadMarkKey), m.encode())
	l.marked = true
	return l.write()
}

// finish writes the last batch, which takes the mark away.
func (l *loader) finish() error {
	if l.marked {
		l.batch.Delete([]byte(loadMarkKey))
	}
	return l.write()
}

func (l *loader) write() error {
	if l.batch.Len() == 0 {
		return nil
	}
	if err := l.db.Write(l.batch); err != nil {
		l.failed = true
		return fmt.Errorf("%s: batch up to line %d: %w", l.in.name, l.line, err)
	}
	l.batch.Reset()
	l.stored = l.records
	return nil
}

// stopped keeps what was read before err, and says in err what is kept.
func (l *loader) stopped(err error) error {
	if !l.failed && l.batch.Len() > 0 {
		l.writeMarked() // err is the first failure; what was kept is said below
	}
	if l.stored == 0 {
		return err
	}
	return fmt.Errorf("%w (%s loaded before; --resume goes on from there)", err, plural(l.stored, "record"))
}

// loadResult is what --json prints.
type loadResult struct {
	Source  string  `json:"source"`
	Records int64   `json:"records"` // good ones in the input
	Resumed int64   `json:"resumed"` // of those, put by an earlier load
	Skipped int64   `json:"skipped"` // bad ones
	Bytes   int64   `json:"bytes"`   // of the keys and values put now
	Seconds float64 `json:"seconds"`
}

func (l *loader) report(w io.Writer, asJSON bool) error {
	l.in.clearBar()
	if asJSON {
		return writeJSON(w, loadResult{l.in.name, l.records, l.resumed, l.skipped, l.bytes, l.took.Seconds()})
	}
	line := fmt.Sprintf("%s: %s put, %s, in %s", l.in.name, plural(l.records-l.resumed, "record"), size(l.bytes), span(l.took))
	if l.resumed > 0 {
		line += fmt.Sprintf("; %s put before", plural(l.resumed, "record"))
	}
	if l.skipped > 0 {
		line += fmt.Sprintf("; %s left out", plural(l.skipped, "bad record"))
	}
	_, err := fmt.Fprintln(w, line)
	return err
}
