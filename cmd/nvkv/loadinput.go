package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"

	"nvkv/cmd/nvkv/internal/textrec"
	"nvkv/kv"
)

// input is the input of a load.
type input struct {
	name    string
	records textrec.Reader
	first   func() (textrec.Record, error) // the record that begin has read; nil: none
	bar     *progressbar.ProgressBar       // nil if no terminal shows it
	file    *os.File                       // nil for standard input
}

// openInput opens FILE before the store is touched, so that a wrong name or flag leaves no empty
// store behind.
func openInput(cmd *cobra.Command, path string, o *loadOptions) (*input, error) {
	if o.batch < 1 {
		return nil, usagef("--batch %d: want at least 1", o.batch)
	}
	if !cmd.Flags().Changed("format") && path != "-" {
		var ok bool
		if o.format, ok = textrec.FormatOf(path); !ok {
			return nil, usagef("cannot tell the format of %s from its name: give --format", path)
		}
	}
	in, r, err := openFile(cmd, path)
	if err != nil {
		return nil, err
	}
	if in.records, err = textrec.NewReader(r, o.format, o.text); err != nil {
		in.close()
		return nil, usageError{err}
	}
	return in, nil
}

// begin reads the first record, so that an input without a usable record makes no store. next
// returns it again.
func (in *input) begin(skipBad bool) error {
	rec, err := in.next()
	var bad *textrec.LineError
	if err != nil && err != io.EOF && !(skipBad && errors.As(err, &bad)) {
		return in.at(err)
	}
	in.first = func() (textrec.Record, error) { return rec, err }
	return nil
}

// next returns the next record that a store accepts.
func (in *input) next() (textrec.Record, error) {
	if first := in.first; first != nil {
		in.first = nil
		return first()
	}
	rec, err := in.records.Next()
	if err == nil {
		err = in.admit(rec.Key)
	}
	return rec, err
}

// admit refuses a record that no store accepts.
func (in *input) admit(key []byte) error {
	switch {
	case len(key) > kv.MaxKeyBytes:
		return &textrec.LineError{Line: in.records.Line(), Err: fmt.Errorf("a key of %d bytes: at most %d", len(key), kv.MaxKeyBytes)}
	case isLoadMark(key):
		return &textrec.LineError{Line: in.records.Line(), Err: fmt.Errorf("the key %q is the load's own", loadMarkKey)}
	}
	return nil
}

// at adds to err the file and the line.
func (in *input) at(err error) error {
	var bad *textrec.LineError
	switch {
	case err == io.EOF:
		return err
	case errors.As(err, &bad):
		return fmt.Errorf("%s:%d: %w", in.name, bad.Line, bad.Err)
	}
	return fmt.Errorf("%s: %w", in.name, err)
}

// openFile opens the file and adds a progress bar.
func openFile(cmd *cobra.Command, path string) (*input, io.Reader, error) {
	in, r, bytes := &input{name: path}, cmd.InOrStdin(), int64(-1)
	if path != "-" {
		f, err := os.Open(path)
		if err != nil {
			return nil, nil, err
		}
		info, err := f.Stat()
		if err != nil {
			f.Close()
			return nil, nil, err
		}
		if info.IsDir() {
			f.Close()
			return nil, nil, fmt.Errorf("%s is a directory", path)
		}
		if info.Mode().IsRegular() {
			bytes = info.Size()
		}
		in.file, r = f, f
	}
	if w := cmd.ErrOrStderr(); isTerminal(w) {
		in.bar = newLoadBar(w, bytes, path)
		r = io.TeeReader(r, in.bar)
	}
	return in, r, nil
}

// newLoadBar shows progress over the given number of bytes, or activity if that is -1.
func newLoadBar(w io.Writer, bytes int64, path string) *progressbar.ProgressBar {
	return progressbar.NewOptions64(bytes,
		progressbar.OptionSetWriter(w),
		progressbar.OptionSetDescription(shown(path)),
		progressbar.OptionShowBytes(true),
		progressbar.OptionThrottle(100*time.Millisecond),
		progressbar.OptionClearOnFinish(),
		progressbar.OptionFullWidth())
}

// clearBar removes the bar from the terminal before other output.
func (in *input) clearBar() {
	if in.bar != nil {
		in.bar.Clear() // if the terminal cannot be written to, the bar is not needed
	}
}

func (in *input) close() {
	in.clearBar()
	if in.file != nil {
		in.file.Close() // only read from
	}
}
