package textrec

import (
	"fmt"
	"path/filepath"
	"strings"
)

// A Format is a text form of records. The zero value is JSONL. It has the methods of a command-line
// flag.
type Format int

// These are the formats; the package comment describes them.
const (
	JSONL Format = iota
	CSV
	TSV
	Lines
)

var formatNames = [...]string{JSONL: "jsonl", CSV: "csv", TSV: "tsv", Lines: "lines"}

// String returns the name that Set accepts.
func (f Format) String() string { return formatNames[f] }

// Set makes f the format called name.
func (f *Format) Set(name string) error {
	for i, n := range formatNames {
		if n == name {
			*f = Format(i)
			return nil
		}
	}
	return fmt.Errorf("unknown format %q: want jsonl, csv, tsv or lines", name)
}

// Type names the flag's argument in help texts.
func (f *Format) Type() string { return "format" }

// FormatOf returns the format of a file by the extension of its name.
func FormatOf(path string) (f Format, ok bool) {
	switch strings.ToLower(filepath.Ext(path)) {
	case ".jsonl", ".ndjson":
		return JSONL, true
	case ".csv":
		return CSV, true
	case ".tsv", ".tab":
		return TSV, true
	case ".txt", ".lines":
		return Lines, true
	}
	return 0, false
}
