package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"nvkv/kv"
)

// newDemoLoadCmd returns the command of the child process that the demonstration kills.
func newDemoLoadCmd() *cobra.Command {
	var device deviceKind
	var group int
	cmd := &cobra.Command{
		Use:    "demo-load STORE",
		Short:  "Load the data of the demonstration and acknowledge it on standard output",
		Hidden: true,
		Args:   wantArgs("STORE"),
	}
	cmd.Flags().Var(&device, "device", "kind of device")
	cmd.Flags().IntVar(&group, "group", 1, "characters a transaction")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		chars, err := characters()
		if err != nil {
			return err
		}
		g := globals{device: device}
		return g.create(args[0], func(db *kv.DB) error {
			return loadCharacters(cmd.Context(), db, chars, group, acknowledgeTo(cmd.OutOrStdout()))
		})
	}
	return cmd
}

// loadCharacters puts chars into db, group of them per transaction. After each durable transaction
// it calls done with its number of characters.
func loadCharacters(ctx context.Context, db *kv.DB, chars []character, group int, done func(n int) error) error {
	batch := db.NewBatch()
	for len(chars) > 0 {
		if err := interrupted(ctx); err != nil {
			return err
		}
		n := min(group, len(chars))
		batch.Reset()
		for i := range chars[:n] {
			chars[i].put(batch)
		}
		if err := db.Write(batch); err != nil {
			return err
		}
		if err := done(n); err != nil {
			return err
		}
		chars = chars[n:]
	}
	return nil
}

// acknowledgeTo returns a function that writes a line for each character. The lines also bound how
// far the child gets ahead of a parent that reads slowly: when the pipe is full, the child waits.
// So it cannot finish before the parent kills it.
func acknowledgeTo(w io.Writer) func(n int) error {
	var acknowledged int
	var buf []byte
	return func(n int) error {
		buf = buf[:0]
		for range n {
			acknowledged++
			buf = strconv.AppendInt(buf, int64(acknowledged), 10)
			buf = append(buf, '\n')
		}
		_, err := w.Write(buf)
		return err
	}
}

// killedLoad runs the child on the store at path and kills it, with a signal that it cannot catch,
// when it has acknowledged killAt characters. It returns the number of characters acknowledged
// before the child was dead.
func killedLoad(ctx context.Context, path, device string, group, killAt int) (acknowledged int, err error) {
	self, err := os.Executable()
	if err != nil {
		return 0, err
	}
	child := exec.CommandContext(ctx, self, "demo-load", path, "--device="+device, "--group="+strconv.Itoa(group))
	var says strings.Builder
	child.Stderr = &says
	pipe, err := child.StdoutPipe()
	if err != nil {
		return 0, err
	}
	if err := child.Start(); err != nil {
		return 0, err
	}
	acknowledged, readErr := readAcknowledged(pipe, killAt, child.Process.Kill)
	waitErr := child.Wait()
	if err := interrupted(ctx); err != nil {
		return 0, err
	}
	if readErr != nil {
		return 0, readErr
	}
	if acknowledged < killAt {
		return 0, fmt.Errorf("the child process ended by itself after %d acknowledgements: %v; %s", acknowledged, waitErr, says.String())
	}
	return acknowledged, nil
}

// readAcknowledged reads acknowledgements, calls kill at number killAt, and reads on to the end,
// because lines in the pipe are acknowledged, too.
func readAcknowledged(r io.Reader, killAt int, kill func() error) (last int, err error) {
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		n, err := strconv.Atoi(lines.Text())
		if err != nil {
			break // a line that the kill cut off acknowledges nothing
		}
		if n != last+1 {
			return last, fmt.Errorf("the child process acknowledged %d after %d", n, last)
		}
		if last = n; last == killAt {
			if err := kill(); err != nil {
				return last, err
			}
		}
	}
	return last, lines.Err()
}
