package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"nvkv/kv"
)

// condition is what put and del demand of a key before they change it. The comparison and the
// change are one commit.
type condition struct {
	absent bool   // --if-absent
	value  string // --if-value
	given  bool   // --if-value was given
}

func (n *condition) addFlags(cmd *cobra.Command, absentToo bool) {
	cmd.Flags().StringVar(&n.value, "if-value", "", "only if the key has the value `OLD`; else exit 1, or 3 if the key is not there")
	if absentToo {
		cmd.Flags().BoolVar(&n.absent, "if-absent", false, "only if the key is not there; else exit 1")
		cmd.MarkFlagsMutuallyExclusive("if-absent", "if-value")
	}
}

// read completes the condition after the flags have been parsed.
func (n *condition) read(cmd *cobra.Command) { n.given = cmd.Flags().Changed("if-value") }

// put stores a value under the condition.
func (n *condition) put(db *kv.DB, c *coding, key, value []byte) error {
	switch {
	case n.absent:
		return n.explain(db, key)(db.PutIfAbsent(key, value))
	case n.given:
		old, err := c.values().decode("value of --if-value", n.value)
		if err != nil {
			return err
		}
		return n.explain(db, key)(db.CompareAndSwap(key, old, value))
	}
	return db.Put(key, value)
}

// del removes a key if it has the value of --if-value, and returns how many keys it removed.
func (n *condition) del(db *kv.DB, c *coding, key []byte, force bool) (int64, error) {
	old, err := c.values().decode("value of --if-value", n.value)
	if err != nil {
		return 0, err
	}
	err = n.explain(db, key)(db.CompareAndDelete(key, old))
	switch {
	case err == nil:
		return 1, nil
	case force && errors.Is(err, kv.ErrNotFound):
		return 0, nil
	}
	return 0, err
}

// explain turns the result of a conditional call into an error that says why nothing was changed.
func (n *condition) explain(db *kv.DB, key []byte) func(held bool, err error) error {
	return func(held bool, err error) error {
		if held || err != nil {
			return err
		}
		if n.absent {
			return fmt.Errorf("%s: the key is there already; nothing was changed", quoted(key))
		}
		found, err := db.Has(key)
		if err == nil && !found {
			err = kv.ErrNotFound
		}
		if err != nil {
			return fmt.Errorf("%s: %w", quoted(key), err)
		}
		return fmt.Errorf("%s: the key has another value; nothing was changed", quoted(key))
	}
}
