package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"nvkv/cmd/nvkv/internal/textrec"
	"nvkv/kv"
)

func newSalvageCmd(g *globals) *cobra.Command {
	return &cobra.Command{
		Use:        "salvage STORE OUT",
		SuggestFor: []string{"repair", "rescue", "recover"},
		Short:      "Rescue what is readable of a damaged store",
		Long: `Reads what can be read of a store, also of one that does not open any more, and
writes it to OUT: a new store, or JSON lines where OUT ends in .jsonl or is -.
STORE is not changed. OUT must not exist, has the permissions of STORE, and is
there when all was read that can be, or not at all.

Where the store's index stands, it says what is rescued. Where a part of it is
gone, every slot is searched for records whose checksums hold, and the newest
one of each key is taken: such a key may have had a newer value, or have been
deleted. A record that the index names and of which one bit has turned over is
rescued with that bit turned back, unless its value lies in runs and the store has
been written to since. What could not be read, and how much was found
either way, is told on standard error. The exit code is 0 if every key was rescued
that the index names or, where it does not stand, the store counted, and 1 if some
were not or nothing says how many there were.`,
		Example: `  nvkv salvage broken.nv rescued.nv
  nvkv salvage broken.nv rescued.jsonl
  nvkv salvage broken.nv - | head`,
		Args: wantArgs("STORE", "OUT"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return salvage(cmd, args[0], args[1], &kv.Options{Device: string(g.device)})
		},
	}
}

func salvage(cmd *cobra.Command, from, to string, o *kv.Options) error {
	out, err := openRescue(cmd.OutOrStdout(), from, to)
	if err != nil {
		return err
	}
	defer out.discard()
	report, err := kv.Salvage(cmd.Context(), from, o, out.put)
	if err == nil {
		err = out.finish()
	}
	if err != nil {
		return ended(err)
	}
	tell := cmd.ErrOrStderr()
	for _, d := range report.Damage {
		fmt.Fprintln(tell, oneLine(errors.New(d.String())))
	}
	fmt.Fprintln(tell, sumUp(&report))
	switch {
	case report.Unknown:
		return fmt.Errorf("%s: nothing says how many keys it had: more than what was rescued may be lost", from)
	case report.Lost > 0:
		return fmt.Errorf("%s: %s could not be rescued", from, plural(report.Lost, "key"))
	}
	return nil
}

func sumUp(r *kv.SalvageReport) string {
	mended, lost := "", plural(r.Lost, "key")+" lost"
	if r.Mended > 0 {
		mended = fmt.Sprintf(", one bit turned back in %d of them,", r.Mended)
	}
	if r.Unknown {
		lost = "how many keys are lost is not known"
	}
	return fmt.Sprintf("rescued %s by the index%s and %d without it; %s", plural(r.Indexed, "record"), mended, r.Stray, lost)
}

// rescueOut takes rescued records. Its output has a temporary name until finish. discard removes an
// unfinished output.
type rescueOut struct {
	put     func(kv.Rescued) error
	finish  func() error
	discard func()
}

func openRescue(stdout io.Writer, from, to string) (*rescueOut, error) {
	if to == "-" {
		lines := newRescueLines(stdout)
		return &rescueOut{put: lines.put, finish: lines.out.Flush, discard: func() {}}, nil
	}
	if _, err := os.Lstat(to); err == nil {
		return nil, fmt.Errorf("%s exists already", to)
	}
	part, err := newPart(to, modeOf(from))
	if err != nil {
		return nil, err
	}
	if strings.HasSuffix(to, ".jsonl") {
		lines := newRescueLines(part.file)
		return &rescueOut{
			put:     lines.put,
			finish:  func() error { return errors.Join(lines.out.Flush(), part.publish()) },
			discard: part.discard,
		}, nil
	}
	return rescueStore(part)
}

// rescueLines writes JSON lines.
type rescueLines struct{ out *textrec.Writer }

func newRescueLines(w io.Writer) rescueLines {
	return rescueLines{textrec.NewWriter(w, textrec.JSONL)}
}

func (l rescueLines) put(r kv.Rescued) error {
	return l.out.Write(textrec.Record{Key: r.Key, Value: r.Value, Expires: r.Expires})
}

// rescueBatchBytes is the size of a batch of rescued records.
const rescueBatchBytes = 1 << 20

// rescueStore puts records into a new store.
func rescueStore(part *part) (*rescueOut, error) {
	db, err := kv.Open(part.file.Name(), nil)
	if err != nil {
		part.discard()
		return nil, err
	}
	b := db.NewBatch()
	flush := func() error {
		err := db.Write(b)
		b.Reset()
		return err
	}
	return &rescueOut{
		put: func(r kv.Rescued) error {
			b.PutUntil(r.Key, r.Value, r.Expires)
			if b.Size() < rescueBatchBytes {
				return nil
			}
			return flush()
		},
		finish: func() error {
			if err := flush(); err != nil {
				return err
			}
			if err := db.Close(); err != nil {
				return err
			}
			return part.publish()
		},
		discard: func() {
			db.Close() // the error was reported; the caller removes the file
			part.discard()
		},
	}, nil
}
