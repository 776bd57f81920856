package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"nvkv/cmd/nvkv/internal/textrec"
	"nvkv/compat/convert"
)

// textFormats are the text files that load and dump know, as stores to convert
// from and to.
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
	file    io.Closer // nil: standard input, which is not ours to close
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
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		key, value, err := s.records.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return s.at(err)
		}
		if err := fn(key, value); err != nil {
			return err
		}
	}
}

// at says in which file, and on which line of it, err is.
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
	file *os.File
	out  *textrec.Writer
}

func createText(path string, f textrec.Format) (convert.Sink, error) {
	file, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	return &textSink{file, textrec.NewWriter(file, f)}, nil
}

func (s *textSink) Put(key, value []byte) error { return s.out.Write(key, value) }

func (s *textSink) Finish() error {
	if err := s.out.Flush(); err != nil {
		return err
	}
	if err := s.file.Sync(); err != nil {
		return err
	}
	return s.file.Close()
}

func (s *textSink) Abort() { s.file.Close() } // the file is thrown away
