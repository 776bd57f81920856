package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"nvkv/cmd/nvkv/internal/textrec"
	"nvkv/kv"
)

func newDelCmd(g *globals) *cobra.Command {
	var d deletion
	cmd := &cobra.Command{
		Use:        "del STORE [KEY...]",
		SuggestFor: []string{"rm", "delete", "remove", "unset"},
		Short:      "Delete keys, or a range of keys",
		Long: `Deletes the keys, all at once or, after a crash, none. If one of them is not
there the others are deleted, the missing one is named and the exit code is 3,
or 0 with --force.

With --if-value there is one KEY, and it is deleted only if it has that value.
Otherwise nothing changes and the exit code is 1.

With --prefix, --start or --end instead of keys it deletes the keys of that
range, all at once, and says how many there were; --end itself is not in the
range. With --dry-run it only says how many there are, and changes nothing.`,
		Example: `  nvkv del store.nv colour
  nvkv del store.nv user/1 user/2 --force
  nvkv del store.nv lock/7 --if-value me
  nvkv del store.nv --prefix session/ --dry-run
  nvkv del store.nv --start 2026-01 --end 2026-02`,
		Args: wantKeysOrRange,
	}
	d.coding.addFlags(cmd)
	d.keys.addFlags(cmd)
	f := cmd.Flags()
	f.BoolVarP(&d.force, "force", "f", false, "keys that are not there are no failure")
	f.BoolVarP(&d.dry, "dry-run", "n", false, "change nothing, and say what would be deleted")
	f.BoolVar(&d.json, "json", false, "print the result as JSON")
	d.only.addFlags(cmd, false)
	cmd.MarkFlagsMutuallyExclusive("if-value", "dry-run")
	cmd.RunE = func(cmd *cobra.Command, args []string) error { return d.run(cmd, g, args) }
	return cmd
}

// wantKeysOrRange accepts a store with keys, or with flags for a range.
func wantKeysOrRange(cmd *cobra.Command, args []string) error {
	var r rangeFlags
	switch {
	case r.given(cmd) && len(args) > 1:
		return usagef("either keys or a range: %s and --prefix, --start or --end", quoted([]byte(args[1])))
	case r.given(cmd):
		return wantArgs("STORE")(cmd, args)
	}
	return wantArgs("STORE", "KEY...")(cmd, args)
}

// deletion is one run of the command.
type deletion struct {
	coding           coding
	keys             rangeFlags
	only             condition
	force, dry, json bool
}

// delResult is the output of --json.
type delResult struct {
	Deleted int64 `json:"deleted"`
	DryRun  bool  `json:"dry_run"` // they are still there
}

func (d *deletion) run(cmd *cobra.Command, g *globals, args []string) error {
	r := delResult{DryRun: d.dry}
	var start, end []byte
	keys := make([][]byte, len(args)-1)
	if d.only.read(cmd); d.only.given && len(keys) != 1 {
		return usagef("--if-value: want one KEY")
	}
	err := error(nil)
	if len(keys) == 0 {
		start, end, err = d.keys.bounds(cmd, &d.coding)
	}
	for i, arg := range args[1:] {
		if err == nil {
			keys[i], err = d.coding.decodeKey("key", arg)
		}
	}
	if err != nil {
		return err
	}
	var missing error
	switch {
	case d.dry:
		err = g.read(cmd, args[0], nil, func(db reader) error {
			if len(keys) == 0 {
				return db.scan(cmd.Context(), keyRange{start: start, end: end, keysOnly: true}, func(textrec.Record) error { r.Deleted++; return nil })
			}
			for _, key := range keys {
				_, err := db.get(cmd.Context(), key)
				if found, err := d.found(key, err, &missing); err != nil {
					return err
				} else if found {
					r.Deleted++
				}
			}
			return nil
		})
	case d.only.given:
		err = g.update(args[0], func(db *kv.DB) (err error) {
			r.Deleted, err = d.only.del(db, &d.coding, keys[0], d.force)
			return err
		})
	case len(keys) > 0:
		err = g.update(args[0], func(db *kv.DB) (err error) { r.Deleted, missing, err = d.deleteKeys(db, keys); return err })
	default:
		err = g.update(args[0], func(db *kv.DB) (err error) { r.Deleted, err = deleteRange(db, start, end); return err })
	}
	if err == nil {
		err = r.print(cmd.OutOrStdout(), d.json, len(keys) == 0 || d.dry)
	}
	if err == nil && missing != nil {
		err = about(args[0], missing)
	}
	return err
}

// found turns the error of a read into whether the key is there. It keeps the first missing key.
func (d *deletion) found(key []byte, err error, missing *error) (bool, error) {
	switch {
	case err == nil:
		return true, nil
	case exitCode(runError{err}) != exitNotFound:
		return false, fmt.Errorf("%s: %w", quoted(key), err)
	}
	if *missing == nil && !d.force {
		*missing = fmt.Errorf("%s: %w", quoted(key), kv.ErrNotFound)
	}
	return false, nil
}

func (d *deletion) deleteKeys(db *kv.DB, keys [][]byte) (n int64, missing, err error) {
	batch := db.NewBatch()
	seen := map[string]bool{}
	for _, key := range keys {
		there, err := db.Has(key)
		if err == nil && !there {
			err = kv.ErrNotFound
		}
		if there, err = d.found(key, err, &missing); err != nil {
			return 0, nil, err
		}
		if there && !seen[string(key)] {
			seen[string(key)] = true
			batch.Delete(key)
			n++
		}
	}
	return n, missing, db.Write(batch)
}

// deleteRange deletes the keys in [start, end), and counts them in the same transaction.
func deleteRange(db *kv.DB, start, end []byte) (n int64, err error) {
	err = db.Update(func(tx *kv.Tx) error {
		n = 0
		for key := range tx.Keys(start, end) {
			if !isLoadMark(key) {
				n++
			}
		}
		if err := tx.Err(); err != nil {
			return err
		}
		return tx.DeleteRange(start, end)
	})
	return n, err
}

func (r *delResult) print(w io.Writer, asJSON, told bool) error {
	if asJSON {
		return writeJSON(w, r)
	}
	if !told {
		return nil
	}
	what := "deleted"
	if r.DryRun {
		what = "would be deleted"
	}
	_, err := fmt.Fprintf(w, "%s %s\n", plural(r.Deleted, "key"), what)
	return err
}
