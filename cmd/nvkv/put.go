package main

import (
	"time"

	"github.com/spf13/cobra"

	"nvkv/kv"
)

func newPutCmd(g *globals) *cobra.Command {
	var (
		c    coding
		ttl  time.Duration
		only condition
	)
	cmd := &cobra.Command{
		Use:        "put STORE KEY VALUE|-",
		SuggestFor: []string{"set", "insert", "write", "add"},
		Short:      "Store a value under a key",
		Long: `Stores VALUE under KEY, in place of the value that is there, and creates the
store if it is absent. The pair is durable when the command returns.

With - the value is what standard input holds, byte for byte, whatever --hex
or --base64 say about the key. With --ttl the key is absent once that has
passed; "nvkv info STORE KEY" says when that is, and a put without it clears it.
A key that starts with a dash goes behind --.

With --if-absent or --if-value the command compares and stores at one instant.
If the key is not as demanded it changes nothing and fails: with exit code 3 if
--if-value finds no such key, else with 1.`,
		Example: `  nvkv put store.nv colour blue
  nvkv put store.nv photo - < photo.jpg
  nvkv put store.nv --hex 00ff 68656c6c6f
  nvkv put store.nv session/7 token --ttl 90s
  nvkv put store.nv --if-absent lock/7 me
  nvkv put store.nv --if-value blue colour red
  nvkv put store.nv -- -key value`,
		Args: wantArgs("STORE", "KEY", "VALUE|-"),
	}
	c.addFlags(cmd)
	cmd.Flags().DurationVar(&ttl, "ttl", 0, "`DURATION` after which the key is absent, such as 90s (default: never)")
	only.addFlags(cmd, true)
	cmd.MarkFlagsMutuallyExclusive("ttl", "if-absent")
	cmd.MarkFlagsMutuallyExclusive("ttl", "if-value")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		only.read(cmd)
		if ttl <= 0 && cmd.Flags().Changed("ttl") {
			return usagef("--ttl %v: want more than nothing", ttl)
		}
		key, err := c.decodeKey("key", args[1])
		if err != nil {
			return err
		}
		value, err := putValue(cmd, &c, args[2])
		if err != nil {
			return err
		}
		open := g.create
		if only.given {
			open = g.update
		}
		return open(args[0], func(db *kv.DB) error {
			if ttl > 0 {
				return db.PutTTL(key, value, ttl)
			}
			return only.put(db, &c, key, value)
		})
	}
	return cmd
}

func putValue(cmd *cobra.Command, c *coding, arg string) ([]byte, error) {
	if arg == "-" {
		return readStdin(cmd)
	}
	return c.decodeValue(arg)
}
