package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
)

// teller writes text with headings and tables for people. Headings are bold on a terminal, unless
// NO_COLOR is set. It keeps the first error.
type teller struct {
	w     io.Writer
	bold  bool
	begun bool
	err   error
}

func newTeller(w io.Writer) *teller {
	return &teller{w: w, bold: isTerminal(w) && os.Getenv("NO_COLOR") == ""}
}

func (t *teller) write(text string) {
	if t.err == nil {
		_, t.err = io.WriteString(t.w, text)
	}
}

// heading begins a section.
func (t *teller) heading(text string) {
	if t.begun {
		t.write("\n")
	}
	t.begun = true
	if t.bold {
		text = "\x1b[1m" + text + "\x1b[0m"
	}
	t.write(text + "\n")
}

// line writes a line of the section.
func (t *teller) line(format string, args ...any) {
	t.write(strings.TrimRight("  "+fmt.Sprintf(format, args...), " ") + "\n")
}

// rows writes a table. fill writes its rows, with a tab after each cell.
func (t *teller) rows(fill func(io.Writer)) {
	var b strings.Builder
	table := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fill(table)
	table.Flush() // to memory, which cannot fail
	for row := range strings.Lines(b.String()) {
		t.line("%s", strings.TrimSuffix(row, "\n"))
	}
}
