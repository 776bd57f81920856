package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"

	"nvkv/compat/convert"
)

func newConvertCmd() *cobra.Command {
	var c conversion
	cmd := &cobra.Command{
		Use:   "convert --from FORMAT:PATH --to FORMAT:PATH",
		Short: "Copy a store of one engine or format into a new one of another",
		Long: `Copies all entries of a store into a new store, reads that back and compares
it with what was read from the source, by number and checksum. The destination
appears only when all of it is there and verified; until then it is made in a
directory .nvkv-convert-* beside it.

  nvkv:PATH          a store file
  bbolt:PATH/BUCKET  a bucket of a bbolt file; A/B is B inside A, and %2F a
                     slash in a name. As a destination it is added to the file.
  bbolt:PATH         a whole bbolt file
  pebble:PATH        a pebble directory
  jsonl:PATH         JSON lines as "nvkv dump" writes them; also csv:, tsv: and
                     lines:. As a source - is standard input.

The keys of a whole bbolt file are, elsewhere, the names of the buckets, each
followed by the bytes 00 01, and then the key; a byte 00 inside any of them is
written 00 FF. Empty buckets and sequence numbers are entries too, so that the
way back gives the same file.

bbolt and pebble have no empty key: --empty-key stores it under another one.
They and the format lines keep no expiries: what expires in the source lives for
ever there, and a warning says how much that is. What has expired is left out.

The destination has the permissions of what it replaces, or else of the source.`,
		Example: `  nvkv convert --from bbolt:app.db --to nvkv:app.nv
  nvkv convert --from bbolt:app.db/users --to nvkv:users.nv
  nvkv convert --from nvkv:users.nv --to bbolt:other.db/users
  nvkv convert --from pebble:data --to nvkv:data.nv --json
  nvkv convert --from nvkv:data.nv --to jsonl:data.jsonl --force`,
		Args: wantArgs(),
	}
	f := cmd.Flags()
	f.StringVar(&c.from, "from", "", "`STORE` to read")
	f.StringVar(&c.to, "to", "", "`STORE` to make")
	f.BoolVar(&c.options.Force, "force", false, "replace the destination if it exists")
	f.BytesHexVar(&c.options.EmptyKey, "empty-key", nil, "`KEY`, in hexadecimal, under which the empty key is stored")
	f.BoolVar(&c.json, "json", false, "print the result as JSON")
	for _, name := range []string{"from", "to"} {
		if err := cmd.MarkFlagRequired(name); err != nil {
			panic(err) // the flag was defined above
		}
	}
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return c.run(cmd) }
	return cmd
}

// conversion is one run of the command.
type conversion struct {
	from, to string
	json     bool
	options  convert.Options
}

func (c *conversion) run(cmd *cobra.Command) error {
	if device := cmd.Flag("device"); device != nil && device.Changed {
		return usagef("--device does not go with convert, which finds the device out from the path")
	}
	from, to, err := c.locations(cmd.InOrStdin())
	if err != nil {
		return err
	}
	if from.Format.Name == "pebble" || to.Format.Name == "pebble" {
		done, pid, err := guarded(cmd)
		if done && err != nil {
			err = errors.Join(err, removeStage(convert.StagePattern(to.Path, pid)))
		}
		if done {
			return err
		}
	}
	bar := &convertBar{out: cmd.ErrOrStderr()}
	if isTerminal(bar.out) {
		c.options.Progress = bar.show
	}
	result, err := convert.Run(cmd.Context(), from, to, c.options)
	bar.clear()
	if err == nil && result.Unended > 0 {
		warnUnended(cmd.ErrOrStderr(), result.Unended, to.Format.Name)
	}
	switch {
	case errors.Is(err, context.Canceled):
		return errInterrupted
	case errors.Is(err, convert.ErrExists):
		return fmt.Errorf("%w; --force replaces it", err)
	case err != nil && from.Format.Name == "nvkv" && strings.HasPrefix(err.Error(), "source: "):
		return damageHelp(from.Path, err)
	case err != nil:
		return err
	case c.json:
		return writeJSON(cmd.OutOrStdout(), result)
	}
	return printConverted(cmd.OutOrStdout(), result)
}

func (c *conversion) locations(stdin io.Reader) (from, to convert.Location, err error) {
	formats := append(convert.Formats(), textFormats(stdin)...)
	if from, err = convert.Parse(c.from, formats); err != nil {
		return from, to, usagef("--from: %w", err)
	}
	if to, err = convert.Parse(c.to, formats); err != nil {
		return from, to, usagef("--to: %w", err)
	}
	if to.Path == "-" {
		return from, to, usagef("--to: standard output cannot be read back to verify it; nvkv dump writes there")
	}
	return from, to, nil
}

func printConverted(out io.Writer, r convert.Result) error {
	took := func(seconds float64) string { return span(time.Duration(seconds * float64(time.Second))) }
	_, err := fmt.Fprintf(out, "%s, %s of keys and %s of values: copied in %s, verified in %s\n%s\n  to %s\nsha256 %s\n",
		countEntries(r.Entries), size(r.KeyBytes), size(r.ValueBytes), took(r.CopySeconds), took(r.VerifySeconds), shown(r.From), shown(r.To), r.Checksum)
	return err
}

func countEntries(n int64) string {
	if n == 1 {
		return "1 entry"
	}
	return count(n) + " entries"
}

// convertBar shows the progress of a conversion on a terminal, with a bar per phase.
type convertBar struct {
	out   io.Writer
	phase string
	bar   *progressbar.ProgressBar // nil before the first phase
}

func (b *convertBar) show(p convert.Progress) {
	if p.Phase != b.phase {
		b.clear()
		b.phase = p.Phase
		b.bar = progressbar.NewOptions64(p.Total,
			progressbar.OptionSetWriter(b.out),
			progressbar.OptionSetDescription(p.Phase),
			progressbar.OptionShowCount(),
			progressbar.OptionShowIts(),
			progressbar.OptionThrottle(100*time.Millisecond),
			progressbar.OptionClearOnFinish(),
			progressbar.OptionFullWidth())
	}
	_ = b.bar.Set64(p.Done) // a closed terminal is no failure of the conversion
}

func (b *convertBar) clear() {
	if b.bar != nil {
		_ = b.bar.Clear()
	}
}
