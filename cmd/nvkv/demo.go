package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"nvkv/kv"
)

func newDemoCmd() *cobra.Command {
	var d demo
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "See the engine at work: load real data, kill it, recover, look things up",
		Long: `Loads the Unicode character database into a new store, a durable transaction
for every character, kills the process that does so in the middle, recovers,
verifies that all it had acknowledged is there, looks things up, and says what
it cost. It takes a few seconds and leaves nothing behind.`,
		Example: `  nvkv demo
  nvkv demo --dir . --keep`,
		Args: wantArgs(),
	}
	cmd.Flags().StringVar(&d.dir, "dir", "", "`DIR` for the store (default: /dev/shm where there is one, else the directory for temporary files)")
	cmd.Flags().BoolVar(&d.keep, "keep", false, "keep the store and say where it is")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		d.device = cmd.Flag("device").Value.String()
		d.out = newTeller(cmd.OutOrStdout())
		return d.run(cmd.Context())
	}
	return cmd
}

// demoLoadTime is the approximate limit for a whole load. If a fence is slow, several characters
// share one.
const demoLoadTime = 4 * time.Second

// demo is one run of the command.
type demo struct {
	dir, device string
	keep        bool
	out         *teller

	path         string
	chars        []character // in the store, after verification
	left         []character // not in the store yet
	group        int         // characters per transaction
	acknowledged int         // number of characters that the killed child acknowledged
	cost         demoCost
}

func (d *demo) run(ctx context.Context) (err error) {
	if d.chars, err = characters(); err != nil {
		return err
	}
	dir, err := os.MkdirTemp(demoDir(d.dir), "nvkv-demo-")
	if err != nil {
		return err
	}
	defer func() {
		if d.keep {
			return
		}
		if rmErr := os.RemoveAll(dir); err == nil {
			err = rmErr
		}
	}()
	d.path = filepath.Join(dir, "unicode.nv")
	for _, step := range []func(context.Context) error{d.begin, d.kill, d.reopen} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return d.end()
}

// demoDir returns the directory of the store: dir, or a default if that is empty.
func demoDir(dir string) string {
	const shm = "/dev/shm"
	if dir != "" {
		return dir
	}
	if info, err := os.Stat(shm); err == nil && info.IsDir() {
		return shm
	}
	return os.TempDir()
}

func (d *demo) globals() *globals { return &globals{device: deviceKind(d.device)} }

// begin makes the store, describes its device and measures a fence.
func (d *demo) begin(context.Context) error {
	return d.globals().create(d.path, func(db *kv.DB) error {
		d.out.heading("A store")
		d.out.rows(func(t io.Writer) {
			fmt.Fprintf(t, "store\t%s\n", d.path)
			printDevice(t, db.Info())
		})
		took, err := timeOneCommit(db)
		d.group = 1 + int(took*time.Duration(len(d.chars))/demoLoadTime)
		return err
	})
}

// timeOneCommit returns the time of a small durable transaction.
func timeOneCommit(db *kv.DB) (time.Duration, error) {
	const tries = 20
	key := []byte("probe")
	started := time.Now()
	for range tries {
		if err := db.Put(key, key); err != nil {
			return 0, err
		}
	}
	took := time.Since(started) / tries
	return took, db.Delete(key)
}

// kill lets a child process load, and kills it.
func (d *demo) kill(ctx context.Context) error {
	d.out.heading("A load that is killed")
	d.out.line("The Unicode character database: %s, each under its code point and under its name.", plural(len(d.chars), "character"))
	if d.group == 1 {
		d.out.line("A child process makes each a durable transaction and acknowledges it over a pipe.")
	} else {
		d.out.line("A child process makes every %d a durable transaction, because a fence is slow here,", d.group)
		d.out.line("and acknowledges them over a pipe.")
	}
	killAt := len(d.chars)/4 + rand.IntN(len(d.chars)/4)
	var err error
	if d.acknowledged, err = killedLoad(ctx, d.path, d.device, d.group, killAt); err != nil {
		return err
	}
	d.out.line("Killed (SIGKILL) in the middle: %s were acknowledged.", plural(d.acknowledged, "character"))
	return d.out.err
}

// reopen opens the store after the kill and does the remaining steps in this process.
func (d *demo) reopen(ctx context.Context) error {
	d.out.heading("Recovery")
	started := time.Now()
	return d.globals().create(d.path, func(db *kv.DB) error {
		opened := time.Since(started)
		m := db.Metrics()
		d.out.line("Opened again in %s; %s replayed.", span(opened), plural(m.RecordsReplayed, "record"))
		for _, step := range []func(context.Context, *kv.DB) error{d.verify, d.finish, d.lookUp, d.scan, d.check} {
			if err := step(ctx, db); err != nil {
				return err
			}
			if d.out.err != nil {
				return d.out.err
			}
		}
		return nil
	})
}

// verify compares the store with the child's acknowledgements.
func (d *demo) verify(_ context.Context, db *kv.DB) error {
	whole, err := countWhole(db, d.chars)
	if err != nil {
		return err
	}
	beyond := whole - d.acknowledged
	switch {
	case beyond < 0:
		return fmt.Errorf("%s acknowledged, only %s there", plural(d.acknowledged, "character"), count(whole))
	case beyond > d.group || whole%d.group != 0 && whole != len(d.chars):
		return fmt.Errorf("%d characters there, %d acknowledged, %d a transaction: not whole transactions", whole, d.acknowledged, d.group)
	}
	d.out.line("All %s acknowledged characters are there, to the byte, each with its name.", count(d.acknowledged))
	if beyond > 0 {
		d.out.line("The transaction in flight (%s) is there too, whole.", plural(beyond, "character"))
	} else {
		d.out.line("The transaction in flight is not there, no part of it.")
	}
	d.chars, d.left = d.chars[:whole], d.chars[whole:]
	return nil
}

// countWhole returns how many characters, from the first on, are in the store. It returns an error
// if a character is incomplete, or follows a missing one.
func countWhole(db *kv.DB, chars []character) (whole int, err error) {
	for i := range chars {
		there, err := chars[i].in(db)
		switch {
		case err != nil:
			return 0, err
		case there && whole < i:
			return 0, fmt.Errorf("%s is there, %s before it is not", charKey(chars[i].code), charKey(chars[whole].code))
		case there:
			whole++
		}
	}
	return whole, nil
}

// in reports whether the records of c are in the store.
func (c *character) in(db *kv.DB) (bool, error) {
	there, err := holds(db, charKey(c.code), []byte(c.line))
	if err != nil || !c.named() {
		return there, err
	}
	named, err := holds(db, nameKey(c.name), c.codeText())
	if err == nil && named != there {
		err = fmt.Errorf("half of a transaction is there: %s %v, %s %v", charKey(c.code), there, nameKey(c.name), named)
	}
	return there, err
}

// holds reports whether key is in the store. Another value under key is an error.
func holds(db *kv.DB, key, value []byte) (bool, error) {
	got, err := db.Get(key)
	if errors.Is(err, kv.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("%s: %w", key, err)
	}
	if !bytes.Equal(got, value) {
		return false, fmt.Errorf("%s holds %q, not %q", key, got, value)
	}
	return true, nil
}

// finish loads the remaining characters and counts the cost.
func (d *demo) finish(ctx context.Context, db *kv.DB) error {
	before := db.Metrics()
	started := time.Now()
	err := loadCharacters(ctx, db, d.left, d.group, func(int) error { d.cost.transactions++; return nil })
	if err != nil {
		return err
	}
	d.cost.putTime = time.Since(started)
	if err := d.cost.count(ctx, db, before); err != nil {
		return err
	}
	d.chars = d.chars[:len(d.chars)+len(d.left)]
	d.out.line("The other %s follow from this process.", count(len(d.left)))
	if err := d.getAll(db); err != nil {
		return err
	}
	return d.scanAll(db)
}

// getAll gets every character by its code point, in random order.
func (d *demo) getAll(db *kv.DB) error {
	keys := make([][]byte, len(d.chars))
	order := rand.Perm(len(keys))
	for i, c := range order {
		keys[i] = charKey(d.chars[c].code)
	}
	var value []byte
	var err error
	started := time.Now()
	for i, key := range keys {
		if value, err = db.GetAppend(value[:0], key); err != nil {
			return fmt.Errorf("%s: %w", key, err)
		}
		if string(value) != d.chars[order[i]].line {
			return fmt.Errorf("%s holds %q", key, value)
		}
	}
	d.cost.getTime = time.Since(started)
	d.cost.gets = uint64(len(keys))
	return nil
}

// scanAll reads every record in order.
func (d *demo) scanAll(db *kv.DB) error {
	var last []byte
	started := time.Now()
	err := db.View(func(tx *kv.Tx) error {
		for key := range tx.All(nil, nil) {
			if d.cost.scanned > 0 && bytes.Compare(key, last) <= 0 {
				return fmt.Errorf("scan: %s after %s", key, last)
			}
			last = append(last[:0], key...)
			d.cost.scanned++
		}
		return tx.Err()
	})
	d.cost.scanTime = time.Since(started)
	if err == nil && d.cost.scanned != uint64(db.Metrics().Keys) {
		err = fmt.Errorf("scan: %s of %s", plural(d.cost.scanned, "key"), count(db.Metrics().Keys))
	}
	return err
}

func (d *demo) lookUp(_ context.Context, db *kv.DB) error {
	d.out.heading("Looking up")
	var rows strings.Builder
	for _, name := range []string{"SNOWMAN", "GREEK SMALL LETTER OMEGA", "MUSICAL SYMBOL G CLEF"} {
		code, err := db.Get(nameKey(name))
		if err != nil {
			return fmt.Errorf("%s: %w", nameKey(name), err)
		}
		n, err := strconv.ParseUint(string(code), 16, 21)
		if err != nil {
			return fmt.Errorf("%s: %w", nameKey(name), err)
		}
		line, err := db.Get(charKey(rune(n)))
		if err != nil {
			return fmt.Errorf("%s: %w", charKey(rune(n)), err)
		}
		fmt.Fprintf(&rows, "%s\t%s  %c\t%s\n", nameKey(name), code, rune(n), line)
	}
	d.out.rows(func(t io.Writer) { io.WriteString(t, rows.String()) })
	return nil
}

func (d *demo) scan(_ context.Context, db *kv.DB) error {
	d.out.heading("Scanning")
	return db.View(func(tx *kv.Tx) error {
		d.out.line("From %s to %s:", charKey(0x2654), charKey(0x265A))
		d.out.rows(func(t io.Writer) {
			for key, value := range tx.All(charKey(0x2654), charKey(0x265A)) {
				if c, err := parseCharacter(string(value)); err == nil {
					fmt.Fprintf(t, "%s\t%c  %s\n", key, c.code, c.name)
				}
			}
		})
		d.out.line("Names that begin with CAT FACE WITH:")
		d.out.rows(func(t io.Writer) {
			for key, value := range tx.Prefix(nameKey("CAT FACE WITH")) {
				fmt.Fprintf(t, "%s\t%s\n", key, value)
			}
		})
		return tx.Err()
	})
}

func (d *demo) check(ctx context.Context, db *kv.DB) error {
	issues := 0
	err := db.Check(ctx, func(i kv.CheckIssue) {
		issues++
		d.out.line("wrong: %v", i)
	})
	if err == nil && issues > 0 {
		err = fmt.Errorf("check: %s", plural(issues, "issue"))
	}
	d.cost.keys = db.Metrics().Keys
	return err
}

// end prints the cost.
func (d *demo) end() error {
	d.out.heading("What it cost")
	d.out.rows(func(t io.Writer) { d.cost.print(t) })
	d.out.line("")
	d.out.line("Every structure and checksum verified: nothing wrong with %s.", plural(d.cost.keys, "key"))
	if d.keep {
		d.out.line("The store is kept: nvkv scan %s --prefix 'name/CAT'", d.path)
	} else {
		d.out.line("The store is deleted; --keep keeps it.")
	}
	return d.out.err
}
