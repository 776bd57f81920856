package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"nvkv/kv"
)

func newDelCmd(g *globals) *cobra.Command {
	var (
		c     coding
		force bool
		only  condition
	)
	cmd := &cobra.Command{
		Use:   "del STORE KEY...",
		Short: "Delete keys",
		Long: `Deletes the keys, all at once or, after a crash, none. If one of them is not
there the others are deleted, the missing one is named and the exit code is 3,
or 0 with --force.

With --if-value there is one KEY, and it is deleted only if it has that value.
Otherwise nothing changes and the exit code is 1.`,
		Example: `  nvkv del store.nv colour
  nvkv del store.nv user/1 user/2 --force
  nvkv del store.nv lock/7 --if-value me`,
		Args: wantArgs("STORE", "KEY..."),
	}
	c.addFlags(cmd)
	cmd.Flags().BoolVarP(&force, "force", "f", false, "keys that are not there are no failure")
	only.addFlags(cmd, false)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if only.read(cmd); only.given && len(args) != 2 {
			return usagef("--if-value: want one KEY")
		}
		keys := make([][]byte, len(args)-1)
		for i, arg := range args[1:] {
			var err error
			if keys[i], err = c.decode("key", arg); err != nil {
				return err
			}
		}
		return g.update(args[0], func(db *kv.DB) error {
			if only.given {
				return only.del(db, &c, keys[0], force)
			}
			return deleteKeys(db, keys, force)
		})
	}
	return cmd
}

func deleteKeys(db *kv.DB, keys [][]byte, force bool) error {
	batch := db.NewBatch()
	var missing error
	for _, key := range keys {
		found, err := db.Has(key)
		if err != nil {
			return fmt.Errorf("%s: %w", quoted(key), err)
		}
		if !found {
			if missing == nil && !force {
				missing = fmt.Errorf("%s: %w", quoted(key), kv.ErrNotFound)
			}
			continue
		}
		batch.Delete(key)
	}
	if err := db.Write(batch); err != nil {
		return err
	}
	return missing
}
