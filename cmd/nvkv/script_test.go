package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"nvkv/kv"
)

// TestScripts runs the transcripts in testdata/script: command lines with what they must print.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		UpdateScripts:       *update,
		Cmds:                map[string]func(*testscript.TestScript, bool, []string){"appears": appears, "has": has},
	})
}

// appears waits until a file is there.
func appears(ts *testscript.TestScript, _ bool, args []string) {
	for range 6000 {
		if _, err := os.Stat(ts.MkAbs(args[0])); err == nil {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	ts.Fatalf("%s does not appear", args[0])
}

// has waits until a file, which a command in the background writes, holds a text.
func has(ts *testscript.TestScript, _ bool, args []string) {
	for range 6000 {
		if b, err := os.ReadFile(ts.MkAbs(args[0])); err == nil && strings.Contains(string(b), args[1]) {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	ts.Fatalf("%s never holds %q", args[0], args[1])
}

// service is a program that has a store open and answers for it until it is interrupted.
func service() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := serveStore(ctx, os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "service:", err)
		os.Exit(1)
	}
}

func serveStore(ctx context.Context, path string) error {
	db, err := kv.Open(path, &kv.Options{Socket: kv.AutoSocket})
	if err != nil {
		return err
	}
	defer db.Close()
	b := db.NewBatch()
	b.Put([]byte("colour"), []byte("blue"))
	b.PutUntil([]byte("session"), []byte("token"), later)
	for i := range 1000 {
		b.Put(fmt.Appendf(nil, "user/%04d", i), fmt.Appendf(nil, "number %d", i))
	}
	if err := db.Write(b); err != nil {
		return err
	}
	tx, err := db.Begin(false) // an old snapshot, for stats to show
	if err != nil {
		return err
	}
	defer tx.Rollback()
	for i := 0; ctx.Err() == nil; i++ {
		if err := db.Put([]byte("count"), fmt.Append(nil, i)); err != nil {
			return err
		}
		time.Sleep(time.Millisecond)
	}
	return nil
}
