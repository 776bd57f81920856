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

// loadBatchBytes bounds the keys and values of a batch, whatever --batch is.
const loadBatchBytes = 4 << 20

// loader is one run of the command.
type loader struct {
	db   *kv.DB
	in   *input
	opt  loadOptions
	warn io.Writer

	batch   *kv.Batch
	sum     recordSum
	marked  bool  // the store has a mark
	resumed int64 // records that an earlier load had put
	records int64 // good records read
	stored  int64 // of these, records in the store
	failed  bool  // the store refused a batch
	line    int   // line of the last of them
	bytes   int64 // of the keys and values put
	skipped int64 // bad records left out
	expired int64 // records put that had expired
	took    time.Duration
}

func (l *loader) run(ctx context.Context) error {
	started := time.Now()
	l.batch, l.sum = l.db.NewBatch(), newRecordSum()
	mark, err := readLoadMark(ctx, local{l.db})
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

// pass reads the records that mark says are in the store, and checks that they are the same.
func (l *loader) pass(ctx context.Context, mark *loadMark) error {
	for l.records < mark.Records {
		err := l.next(ctx, func(textrec.Record) error { return nil })
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

// next reads one record and passes it to use. A bad record is an error, or is reported and left
// out.
func (l *loader) next(ctx context.Context, use func(textrec.Record) error) error {
	if err := interrupted(ctx); err != nil {
		return err
	}
	rec, err := l.in.next()
	if err == nil {
		l.records++
		l.line = l.in.records.Line()
		l.sum.add(&rec)
		return use(rec)
	}
	var bad *textrec.LineError
	if !errors.As(err, &bad) || !l.opt.skipBad {
		return l.in.at(err)
	}
	l.skipped += int64(bad.Records())
	l.in.clearBar()
	fmt.Fprintf(l.warn, "%s:%d: %s; left out\n", shown(l.in.name), bad.Line, oneLine(bad.Err))
	return nil
}

// put puts a record. An expired record deletes its key, as the expiry would have.
func (l *loader) put(rec textrec.Record) error {
	l.batch.PutUntil(rec.Key, rec.Value, rec.Expires)
	l.bytes += int64(len(rec.Key) + len(rec.Value))
	if !rec.Expires.IsZero() && !rec.Expires.After(time.Now()) {
		l.expired++
	}
	return nil
}

// writeMarked writes the batch together with a mark of the progress.
func (l *loader) writeMarked() error {
	m := loadMark{Source: l.in.name, Records: l.records, Line: l.line, Sum: l.sum.hex()}
	l.batch.Put([]byte(loadMarkKey), m.encode())
	l.marked = true
	return l.write()
}

// finish writes the last batch, which removes the mark.
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

// stopped writes the records read before err, and adds to err how many are stored.
func (l *loader) stopped(err error) error {
	if !l.failed && l.batch.Len() > 0 {
		l.writeMarked() // err is the first failure; the message below says how much is stored
	}
	if l.stored == 0 {
		return err
	}
	return fmt.Errorf("%w (%s loaded before; --resume goes on from there)", err, plural(l.stored, "record"))
}

// loadResult is the output of --json.
type loadResult struct {
	Source  string  `json:"source"`
	Records int64   `json:"records"` // good records in the input
	Resumed int64   `json:"resumed"` // of these, put by an earlier load
	Skipped int64   `json:"skipped"` // bad records
	Expired int64   `json:"expired"` // of those put now, records that had expired
	Bytes   int64   `json:"bytes"`   // of the keys and values put now
	Seconds float64 `json:"seconds"`
}

// report prints the result. Records left out are an error, with an exit code of its own.
func (l *loader) report(w io.Writer, asJSON bool) error {
	err := l.print(w, asJSON)
	if l.skipped > 0 {
		return errors.Join(err, errLeftOut)
	}
	return err
}

func (l *loader) print(w io.Writer, asJSON bool) error {
	l.in.clearBar()
	if asJSON {
		return writeJSON(w, loadResult{l.in.name, l.records, l.resumed, l.skipped, l.expired, l.bytes, l.took.Seconds()})
	}
	line := fmt.Sprintf("%s: %s put, %s, in %s", shown(l.in.name), plural(l.records-l.resumed, "record"), size(l.bytes), span(l.took))
	if l.resumed > 0 {
		line += fmt.Sprintf("; %s put before", plural(l.resumed, "record"))
	}
	if l.expired > 0 {
		line += fmt.Sprintf("; %s of them had expired", count(l.expired))
	}
	if l.skipped > 0 {
		line += fmt.Sprintf("; %s left out", plural(l.skipped, "bad record"))
	}
	_, err := fmt.Fprintln(w, line)
	return err
}
