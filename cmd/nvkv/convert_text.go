package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"nvkv/cmd/nvkv/internal/textrec"
	"nvkv/compat/convert"
)

// textFormats returns the text formats of load and dump as formats to convert from and to.
func textFormats(stdin io.Reader) []convert.Format {
	var formats []convert.Format
	for _, f := range []textrec.Format{textrec.JSONL, textrec.CSV, textrec.TSV, textrec.Lines} {
		formats = append(formats, convert.Format{
			Name:   f.String(),
			Open:   func(l convert.Location) (convert.Source, error) { return openText(l.Path, f, stdin) },
			Create: func(l convert.Location, _ bool) (convert.Sink, error) { return createText(l.Path, f) },
		})
	}
	return formats
}

// textSource reads a text file once.
type textSource struct {
	name    string
	file    io.Closer // nil: standard input, which stays open
	records textrec.Reader
}

func openText(path string, f textrec.Format, stdin io.Reader) (convert.Source, error) {
	s := &textSource{name: path}
	in := stdin
	if path == "-" {
		s.name = "standard input"
	} else {
		file, err := os.Open(path)
		if err != nil {
			return nil, err
		}
		in, s.file = file, file
	}
	var err error
	if s.records, err = textrec.NewReader(in, f, textrec.Options{}); err != nil {
		return nil, errors.Join(s.at(err), s.Close())
	}
	return s, nil
}

func (s *textSource) Each(ctx context.Context, fn func(key, value []byte) error) error {
	return s.EachUntil(ctx, func(key, value []byte, _ time.Time) error { return fn(key, value) })
}

func (s *textSource) EachUntil(ctx context.Context, fn func(key, value []byte, expires time.Time) error) error {
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		rec, err := s.records.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return s.at(err)
		}
		if err := fn(rec.Key, rec.Value, rec.Expires); err != nil {
			return err
		}
	}
}

// at adds to err the file and the line.
func (s *textSource) at(err error) error {
	var bad *textrec.LineError
	if errors.As(err, &bad) {
		return fmt.Errorf("%s:%d: %w", s.name, bad.Line, bad.Err)
	}
	return fmt.Errorf("%s: %w", s.name, err)
}

func (s *textSource) Count() int64 { return -1 }

func (s *textSource) Close() error {
	if s.file == nil {
		return nil
	}
	return s.file.Close()
}

// textSink writes a text file.
type textSink struct {
	path   string
	format textrec.Format
	file   *os.File
	out    *textrec.Writer
}

func createText(path string, f textrec.Format) (convert.Sink, error) {
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, err
	}
	s := &textSink{path, f, file, textrec.NewWriter(file, f)}
	if f == textrec.Lines {
		return s, nil
	}
	return endingSink{s}, nil
}

func (s *textSink) Put(key, value []byte) error {
	return s.out.Write(textrec.Record{Key: key, Value: value})
}

// endingSink is a textSink of a format that keeps expiries.
type endingSink struct{ *textSink }

func (s endingSink) PutUntil(key, value []byte, expires time.Time) error {
	rec := textrec.Record{Key: key, Value: value, Expires: expires}
	err := s.out.Write(rec)
	if err != textrec.ErrNoColumn {
		return err
	}
	if err := s.addColumn(); err != nil {
		return err
	}
	return s.out.Write(rec)
}

// addColumn writes the file again with the expiry column, which is needed when the first record
// that expires comes.
func (s *textSink) addColumn() error {
	if err := s.out.Flush(); err != nil {
		return err
	}
	before, err := os.Open(s.path)
	if err != nil {
		return err
	}
	defer before.Close() // only read from
	if err := os.Remove(s.path); err != nil {
		return err
	}
	s.file.Close() // only flushed bytes are needed
	if s.file, err = os.OpenFile(s.path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600); err != nil {
		return err
	}
	s.out = textrec.NewWriter(s.file, s.format)
	s.out.Expiring = true
	written, err := textrec.NewReader(before, s.format, textrec.Options{})
	for err == nil {
		var rec textrec.Record
		if rec, err = written.Next(); err == nil {
			err = s.out.Write(rec)
		}
	}
	if err == io.EOF {
		return nil
	}
	return err
}

func (s *textSink) Finish() error {
	if err := s.out.Flush(); err != nil {
		return err
	}
	if err := s.file.Sync(); err != nil {
		return err
	}
	return s.file.Close()
}

func (s *textSink) Abort() { s.file.Close() } // the caller removes the file
