package main

import (
	"time"

	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"
)

// bar shows on a terminal how many of how many keys are done. The methods of a nil bar do nothing.
type bar struct{ b *progressbar.ProgressBar }

// newBar returns nil if standard error is no terminal.
func newBar(cmd *cobra.Command) *bar {
	w := cmd.ErrOrStderr()
	if !isTerminal(w) {
		return nil
	}
	return &bar{progressbar.NewOptions64(-1,
		progressbar.OptionSetWriter(w),
		progressbar.OptionSetDescription(cmd.Name()),
		progressbar.OptionSetItsString("keys"),
		progressbar.OptionShowIts(),
		progressbar.OptionShowCount(),
		progressbar.OptionThrottle(100*time.Millisecond),
		progressbar.OptionClearOnFinish(),
		progressbar.OptionFullWidth())}
}

// set shows how many keys are done. A total of 0 means that it is not known.
func (b *bar) set(done, total int64) {
	if b == nil {
		return
	}
	if total > 0 {
		b.b.ChangeMax64(max(total, done))
	}
	b.b.Set64(done) // if the terminal cannot be written to, the bar is not needed
}

// clear removes the bar from the terminal before other output.
func (b *bar) clear() {
	if b != nil {
		b.b.Clear()
	}
}
