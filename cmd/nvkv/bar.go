package main

import (
	"time"

	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"
)

// bar shows on a terminal how many keys of how many are through. The methods
// of nil do nothing.
type bar struct{ b *progressbar.ProgressBar }

// newBar returns nil where standard error is no terminal.
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

// set says how many keys are through; a total of 0 is not known.
func (b *bar) set(done, total int64) {
	if b == nil {
		return
	}
	if total > 0 {
		b.b.ChangeMax64(max(total, done))
	}
	b.b.Set64(done) // a terminal that cannot be written to shows nothing either
}

// clear takes the bar off the terminal before something else is written.
func (b *bar) clear() {
	if b != nil {
		b.b.Clear()
	}
}
