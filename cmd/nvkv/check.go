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
		Use:   "check STORE",
		Short: "Verify every structure and checksum of a store",
		Long: `Reads the whole store and verifies every structure and every checksum. Each
thing that is wrong is a line on standard output: where, in what, which key,
why. The exit code is 0 if nothing is wrong and 1 otherwise. Nothing is
changed.`,
		Example: `  nvkv check store.nv
  nvkv check store.nv --json`,
		Args: wantArgs("STORE"),
	}
	cmd.Flags().BoolVar(&json, "json", false, "print as JSON")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return g.view(args[0], func(db *kv.DB) error {
			return check(cmd.Context(), db, cmd.OutOrStdout(), json)
		})
	}
	return cmd
}

// checkResult is what --json prints.
type checkResult struct {
	Keys    int64         `json:"keys"`
	Seconds float64       `json:"seconds"`
	Issues  []issueResult `json:"issues"`
}

// issueResult is a kv.CheckIssue. Its key is base64, as JSON has bytes.
type issueResult struct {
	Off       uint64 `json:"offset"`
	Structure string `json:"structure"`
	Key       []byte `json:"key_base64,omitempty"`
	Msg       string `json:"message"`
}

func check(ctx context.Context, db *kv.DB, out io.Writer, asJSON bool) error {
	started := time.Now()
	issues := []issueResult{}
	var printErr error
	err := db.Check(ctx, func(i kv.CheckIssue) {
		issues = append(issues, issueResult{i.Off, i.Structure, i.Key, i.Msg})
		if !asJSON && printErr == nil {
			_, printErr = fmt.Fprintln(out, i)
		}
	})
	if errors.Is(err, context.Canceled) {
		return errInterrupted
	}
	if err = errors.Join(err, printErr); err != nil {
		return err
	}
	r := checkResult{db.Metrics().Keys, time.Since(started).Seconds(), issues}
	if err := r.print(out, asJSON); err != nil {
		return err
	}
	if len(issues) > 0 {
		return fmt.Errorf("%s found", plural(len(issues), "issue"))
	}
	return nil
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
