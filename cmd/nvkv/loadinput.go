package main

import (
	"fmt"
	"io"
	"os"
	"time"

	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"

	"nvkv/cmd/nvkv/internal/textrec"
)

// input is the file that a load reads.
type input struct {
	name    string
	records textrec.Reader
	bar     *progressbar.ProgressBar // nil where nobody would see it
	file    *os.File                 // nil for standard input
}

// openInput opens FILE before the store is touched, so that a wrong name or
// flag leaves no empty store behind.
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

// openFile opens the file alone and puts a progress bar beside it.
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

// newLoadBar shows progress over bytes bytes, or that there is some where
// bytes is -1.
func newLoadBar(w io.Writer, bytes int64, path string) *progressbar.ProgressBar {
	return progressbar.NewOptions64(bytes,
		progressbar.OptionSetWriter(w),
		progressbar.OptionSetDescription(path),
		progressbar.OptionShowBytes(true),
		progressbar.OptionThrottle(100*time.Millisecond),
		progressbar.OptionClearOnFinish(),
		progressbar.OptionFullWidth())
}

// clearBar takes the bar off the terminal before something else is written.
func (in *input) clearBar() {
	if in.bar != nil {
		in.bar.Clear() // a terminal that cannot be written to shows nothing either
	}
}

func (in *input) close() {
	in.clearBar()
	if in.file != nil {
		in.file.Close() // only read from
	}
}
