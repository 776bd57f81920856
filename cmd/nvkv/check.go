package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"nvkv/kv"
)

func newCheckCmd(g *globals) *cobra.Command {
	var json bool
	cmd := &cobra.Command{
		Use:        "check STORE",
		SuggestFor: []string{"verify", "fsck"},
		Short:      "Verify every structure and checksum of a store",
		Long: `Reads the whole store and verifies every structure and every checksum. Each
thing that is wrong is a line on standard output: where, in what, which key,
why. What cannot be read is a line, and so is what could not be looked at for
that. The exit code is 0 if nothing is wrong and 1 otherwise. Nothing is
changed.`,
		Example: `  nvkv check store.nv
  nvkv check store.nv --json`,
		Args: wantArgs("STORE"),
	}
	cmd.Flags().BoolVar(&json, "json", false, "print as JSON")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		opened := false
		err := g.read(cmd, args[0], nil, func(db reader) error {
			opened = true
			return check(cmd.Context(), db, cmd.OutOrStdout(), json)
		})
		if !opened && errors.Is(err, kv.ErrCorrupt) {
			return errors.Join(err, checkClosed(cmd, args[0], g, json))
		}
		return err
	}
	return cmd
}

// checkResult is the output of --json.
type checkResult struct {
	Keys    int64         `json:"keys"`
	Seconds float64       `json:"seconds"`
	Issues  []issueResult `json:"issues"`
}

// issueResult is a kv.CheckIssue. Its key is in base64, as bytes are in JSON.
type issueResult struct {
	Off       uint64 `json:"offset"`
	Structure string `json:"structure"`
	Key       []byte `json:"key_base64,omitempty"`
	Msg       string `json:"message"`
}

func check(ctx context.Context, db reader, out io.Writer, asJSON bool) error {
	started := time.Now()
	issues := []issueResult{}
	var printErr error
	keys, err := db.check(ctx, func(i kv.CheckIssue) {
		issues = append(issues, issueResult{i.Off, i.Structure, i.Key, i.Msg})
		if !asJSON && printErr == nil {
			_, printErr = fmt.Fprintln(out, shown(i.String()))
		}
	})
	if err != nil {
		return ended(err)
	}
	r := checkResult{keys, time.Since(started).Seconds(), issues}
	if printErr == nil {
		printErr = r.print(out, asJSON)
	}
	if len(issues) > 0 { // even if nothing has read all of them
		return fmt.Errorf("%s found: %w", plural(len(issues), "issue"), kv.ErrCorrupt)
	}
	return printErr
}

// checkClosed prints the faults that a salvage finds in a store that does not open.
func checkClosed(cmd *cobra.Command, path string, g *globals, asJSON bool) error {
	started := time.Now()
	report, err := kv.Salvage(cmd.Context(), path, &kv.Options{Device: string(g.device)}, func(kv.Rescued) error { return nil })
	if errors.Is(err, context.Canceled) {
		return errInterrupted
	}
	r := checkResult{Keys: report.Indexed + report.Stray, Issues: []issueResult{}}
	for _, i := range report.Damage {
		r.Issues = append(r.Issues, issueResult{i.Off, i.Structure, i.Key, i.Msg})
		if !asJSON {
			fmt.Fprintln(cmd.OutOrStdout(), oneLine(errors.New(i.String()))) // this is reported, whether or not it can be written
		}
	}
	r.Seconds = time.Since(started).Seconds()
	if !asJSON {
		return nil
	}
	return r.print(cmd.OutOrStdout(), asJSON)
}

func (r *checkResult) print(out io.Writer, asJSON bool) error {
	if asJSON {
		return writeJSON(out, r)
	}
	if len(r.Issues) > 0 {
		return nil
	}
	_, err := fmt.Fprintf(out, "nothing wrong: %s checked in %s\n", plural(r.Keys, "key"),
		span(time.Duration(r.Seconds*float64(time.Second))))
	return err
}
