// Command exchange is for tests that have bbolt itself beside the drop-in.
//
//	exchange copy FROM TO    opens FROM, which imports a file of bbolt, and writes a copy
//	exchange dump FILE       prints what is in FILE
package main

import (
	"fmt"
	"os"

	"go.etcd.io/bbolt"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) < 2 {
		return fmt.Errorf("usage: exchange copy FROM TO | dump FILE")
	}
	db, err := bbolt.Open(args[1], 0o600, nil)
	if err != nil {
		return err
	}
	defer db.Close()
	return db.View(func(tx *bbolt.Tx) error {
		for err := range tx.Check() {
			return err
		}
		if args[0] == "copy" {
			return tx.CopyFile(args[2], 0o600)
		}
		return tx.ForEach(func(name []byte, b *bbolt.Bucket) error { return dump(string(name), b) })
	})
}

func dump(path string, b *bbolt.Bucket) error {
	fmt.Printf("%q %d\n", path, b.Sequence())
	return b.ForEach(func(k, v []byte) error {
		if v == nil {
			return dump(path+"/"+string(k), b.Bucket(k))
		}
		fmt.Printf("%q %q %x\n", path, k, v)
		return nil
	})
}
