package main

import (
	"github.com/spf13/cobra"

	"nvkv/cmd/nvkv/internal/textrec"
	"nvkv/kv"
)

func newLoadCmd(g *globals) *cobra.Command {
	var (
		o    loadOptions
		json bool
	)
	cmd := &cobra.Command{
		Use:        "load STORE FILE|-",
		SuggestFor: []string{"import"},
		Short:      "Load records from a text file",
		Long: `Puts the records of FILE, or of standard input with -, into the store, which
is created if it is absent. The formats are those of "nvkv dump":

  jsonl  {"key":"a","value":"b"}, an object a line
  csv    a header row with the columns key and value
  tsv    the same with tabs; \t, \n, \r and \\ inside a field
  lines  key, tab, value; or a key alone, with an empty value

Any other object or row becomes a record with --key FIELD: that field is the
key, and the value is the whole, as JSON, or the one field --value names.
--columns names the columns of a file that has no header row.

At the first bad record the load stops and says where it is; with --skip-bad it
names each bad record on standard error, leaves it out and loads the rest. Then
the exit code is 4. What an unclosed quote of a csv file takes with it counts by
lines. An input whose very first record cannot be used makes no store.

Records go into the store in batches, each of them whole or not at all. A load
that was stopped, by a bad record, a signal or a power failure, may simply be
run again: the result is the same. With --resume it goes on where the last one
stopped: every batch brings a mark with it that says which records are in, and
the last batch takes it away. That the input still begins with those very
records is verified by their checksum.`,
		Example: `  nvkv load store.nv people.jsonl --key id
  nvkv load store.nv people.csv --key id --value name
  nvkv load store.nv words.txt
  nvkv load store.nv big.jsonl --resume
  nvkv load store.nv UnicodeData.tsv --columns code,name,category --key code
  zcat dump.csv.gz | nvkv load store.nv - --format csv`,
		Args: wantArgs("STORE", "FILE|-"),
	}
	f := cmd.Flags()
	f.Var(&o.format, "format", "jsonl, csv, tsv or lines (default: from the end of FILE's name; jsonl for -)")
	f.Lookup("format").DefValue = "" // the usage text states the default
	f.StringVar(&o.text.Key, "key", "", "`FIELD` that is the key; any object or row is a record")
	f.StringVar(&o.text.Value, "value", "", "`FIELD` that is the value (default: the whole object or row as JSON)")
	f.StringSliceVar(&o.text.Columns, "columns", nil, "`NAMES` of the columns of a csv or tsv file without a header row, parted by commas")
	f.IntVar(&o.batch, "batch", 1000, "`N` records a batch")
	f.BoolVar(&o.skipBad, "skip-bad", false, "leave bad records out and load the rest")
	f.BoolVar(&o.resume, "resume", false, "go on where an unfinished load stopped; from the start if there is none")
	f.BoolVar(&json, "json", false, "print the result as JSON")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := notOnto(args[1], args[0]); err != nil {
			return err
		}
		in, err := openInput(cmd, args[1], &o)
		if err != nil {
			return err
		}
		defer in.close()
		if err := in.begin(o.skipBad); err != nil {
			return err
		}
		return g.create(args[0], func(db *kv.DB) error {
			l := &loader{db: db, in: in, opt: o, warn: cmd.ErrOrStderr()}
			if err := l.run(cmd.Context()); err != nil {
				return err
			}
			return l.report(cmd.OutOrStdout(), json)
		})
	}
	return cmd
}

type loadOptions struct {
	format          textrec.Format
	text            textrec.Options
	batch           int
	skipBad, resume bool
}
