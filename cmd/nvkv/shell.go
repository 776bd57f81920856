package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"nvkv/cmd/nvkv/internal/textrec"
	"nvkv/kv"
)

func newShellCmd(g *globals) *cobra.Command {
	return &cobra.Command{
		Use:        "shell STORE",
		SuggestFor: []string{"repl", "console", "cli", "open"},
		Short:      "Type commands to a store that stays open, with transactions",
		Long: `Opens the store, or creates it if it is absent, and takes commands until "exit"
or the end of the input:

` + shellHelp() + `
A word with spaces or bytes that are not printable is written in double quotes,
with escapes as \n, \x00 or \". On a terminal, Tab completes commands and keys,
and the arrow keys go through the lines before. What is not committed at the end
is rolled back. If the input is no terminal, the first failure ends the shell.`,
		Example: `  nvkv shell store.nv
  echo 'scan user/ 10' | nvkv shell store.nv`,
		Args: wantArgs("STORE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return g.create(args[0], func(db *kv.DB) error {
				s := &shell{db: db, out: cmd.OutOrStdout()}
				defer s.end()
				if f, ok := os.Stdin, isTerminal(cmd.OutOrStdout()); ok && term.IsTerminal(int(f.Fd())) {
					return s.converse(cmd.Context(), f)
				}
				return s.script(cmd.Context(), cmd.InOrStdin())
			})
		},
	}
}

// shell is a session with a store.
type shell struct {
	db  *kv.DB
	tx  *kv.Tx // nil outside a transaction
	own bool   // tx is writable
	out io.Writer
}

// shellCommand is a command of the shell.
type shellCommand struct {
	name, args, help string
	least, most      int // arguments
	run              func(*shell, context.Context, []string) error
}

// shellCommands is filled at the start, because explain uses it.
var shellCommands []shellCommand

func init() {
	shellCommands = []shellCommand{
		{"get", "KEY", "print a value", 1, 1, (*shell).get},
		{"put", "KEY VALUE [TTL]", "store a value, for a time such as 90s", 2, 3, (*shell).put},
		{"del", "KEY...", "delete keys", 1, 1 << 20, (*shell).del},
		{"scan", "[PREFIX [LIMIT]]", "print keys and values, at most 100 of them", 0, 2, (*shell).scan},
		{"count", "[PREFIX]", "count keys", 0, 1, (*shell).count},
		{"begin", "", "begin a writable transaction", 0, 0, (*shell).begin},
		{"snapshot", "", "read this state until rollback", 0, 0, (*shell).snapshot},
		{"commit", "", "make the changes of the transaction durable", 0, 0, (*shell).commit},
		{"rollback", "", "drop a transaction, or end a snapshot", 0, 0, (*shell).rollback},
		{"explain", "COMMAND...", "run a command, and say what it cost", 1, 1 << 20, (*shell).explain},
		{"help", "", "print this list", 0, 0, func(s *shell, _ context.Context, _ []string) error { return s.print("%s", shellHelp()) }},
		{"exit", "", "end the shell", 0, 0, func(*shell, context.Context, []string) error { return errExit }},
	}
}

var errExit = errors.New("exit")

// shellHelp returns the table of the commands.
func shellHelp() string {
	var b strings.Builder
	for _, c := range shellCommands {
		fmt.Fprintf(&b, "  %-8s %-17s %s\n", c.name, c.args, c.help)
	}
	return b.String()
}

func (s *shell) print(format string, args ...any) error {
	_, err := fmt.Fprintf(s.out, format, args...)
	return err
}

// converse takes lines from a terminal.
func (s *shell) converse(ctx context.Context, in *os.File) error {
	state, err := term.MakeRaw(int(in.Fd()))
	if err != nil {
		return err
	}
	defer term.Restore(int(in.Fd()), state) // nothing to be done about a failure
	t := term.NewTerminal(struct {
		io.Reader
		io.Writer
	}{in, s.out}, "")
	t.AutoCompleteCallback = s.complete
	if width, height, err := term.GetSize(int(in.Fd())); err == nil {
		t.SetSize(width, height) // without it, 80 columns
	}
	s.out = t // it ends lines as a raw terminal needs them
	for ctx.Err() == nil {
		t.SetPrompt(s.prompt())
		line, err := t.ReadLine()
		if err == io.EOF {
			return nil
		}
		if err != nil && err != term.ErrPasteIndicator {
			return err
		}
		switch err := s.line(ctx, line); {
		case err == errExit:
			return nil
		case err != nil:
			if err := s.print("%s\n", oneLine(err)); err != nil {
				return err
			}
		}
	}
	return nil
}

// prompt says what the next command sees.
func (s *shell) prompt() string {
	switch {
	case s.tx == nil:
		return "nvkv> "
	case s.own:
		return "nvkv (transaction)> "
	}
	return "nvkv (snapshot)> "
}

// script takes lines from anything else.
func (s *shell) script(ctx context.Context, in io.Reader) error {
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, 64<<20)
	for n := 1; lines.Scan(); n++ {
		if err := interrupted(ctx); err != nil {
			return err
		}
		if err := s.line(ctx, lines.Text()); err == errExit {
			return nil
		} else if err != nil {
			return fmt.Errorf("line %d: %w", n, err)
		}
	}
	return lines.Err()
}

// line runs a line.
func (s *shell) line(ctx context.Context, line string) error {
	words, err := splitWords(line)
	if err != nil || len(words) == 0 || strings.HasPrefix(words[0], "#") {
		return err
	}
	return s.run(ctx, words)
}

func (s *shell) run(ctx context.Context, words []string) error {
	for _, c := range shellCommands {
		if c.name != words[0] {
			continue
		}
		if n := len(words) - 1; n < c.least || n > c.most {
			return fmt.Errorf("want %s", strings.TrimSpace(c.name+" "+c.args))
		}
		return c.run(s, ctx, words[1:])
	}
	return fmt.Errorf("unknown command %s; help lists them", quoted([]byte(words[0])))
}

// splitWords splits a line at spaces. A word in double quotes is one of Go.
func splitWords(line string) (words []string, err error) {
	for {
		line = strings.TrimLeft(line, " \t")
		if line == "" {
			return words, nil
		}
		if line[0] != '"' {
			word, rest, _ := strings.Cut(line, " ")
			words, line = append(words, word), rest
			continue
		}
		q, err := strconv.QuotedPrefix(line)
		if err != nil {
			return nil, errors.New("a quote that is not closed, or a wrong escape in it")
		}
		word, err := strconv.Unquote(q)
		if err != nil {
			return nil, err
		}
		if line = line[len(q):]; line != "" && line[0] != ' ' {
			return nil, errors.New("no space behind a quote")
		}
		words = append(words, word)
	}
}

// view calls fn with the open transaction, or with one of its own.
func (s *shell) view(fn func(*kv.Tx) error) error {
	if s.tx != nil {
		return fn(s.tx)
	}
	return s.db.View(fn)
}

// update calls fn with the open transaction, or commits what it does.
func (s *shell) update(fn func(*kv.Tx) error) error {
	switch {
	case s.tx == nil:
		return s.db.Update(fn)
	case !s.own:
		return errors.New("a snapshot only reads; rollback ends it")
	}
	return fn(s.tx)
}

func (s *shell) get(_ context.Context, args []string) error {
	return s.view(func(tx *kv.Tx) error {
		value, err := tx.Get([]byte(args[0]))
		if err != nil {
			return fmt.Errorf("%s: %w", quoted([]byte(args[0])), err)
		}
		return s.print("%s\n", textrec.AppendEscaped(nil, value))
	})
}

func (s *shell) put(_ context.Context, args []string) error {
	ttl := time.Duration(0)
	if len(args) == 3 {
		var err error
		if ttl, err = time.ParseDuration(args[2]); err != nil || ttl <= 0 {
			return fmt.Errorf("%s is no duration such as 90s", quoted([]byte(args[2])))
		}
	}
	return s.update(func(tx *kv.Tx) error {
		if ttl > 0 {
			return tx.PutTTL([]byte(args[0]), []byte(args[1]), ttl)
		}
		return tx.Put([]byte(args[0]), []byte(args[1]))
	})
}

func (s *shell) del(_ context.Context, args []string) error {
	return s.update(func(tx *kv.Tx) error {
		for _, key := range args {
			if err := tx.Delete([]byte(key)); err != nil {
				return err
			}
		}
		return nil
	})
}

func (s *shell) scan(ctx context.Context, args []string) error {
	limit := uint64(100)
	if len(args) == 2 {
		var err error
		if limit, err = strconv.ParseUint(args[1], 10, 64); err != nil || limit == 0 {
			return fmt.Errorf("%s is no number from 1 on", quoted([]byte(args[1])))
		}
	}
	return s.each(ctx, args, keyRange{limit: limit}, func(rec textrec.Record) error {
		return s.print("%s\t%s\n", textrec.AppendEscaped(nil, rec.Key), textrec.AppendEscaped(nil, rec.Value))
	})
}

func (s *shell) count(ctx context.Context, args []string) error {
	n := 0
	err := s.each(ctx, args, keyRange{keysOnly: true}, func(textrec.Record) error { n++; return nil })
	if err != nil {
		return err
	}
	return s.print("%d\n", n)
}

// each calls fn for the records whose keys begin with the first argument.
func (s *shell) each(ctx context.Context, args []string, r keyRange, fn func(textrec.Record) error) error {
	if len(args) > 0 {
		r.start, r.end = []byte(args[0]), prefixEnd([]byte(args[0]))
	}
	return s.view(func(tx *kv.Tx) error {
		if err := scanTx(ctx, tx, r, fn); err != errStop {
			return err
		}
		return nil
	})
}

var errInTx = errors.New("a transaction or a snapshot is open; commit or rollback ends it")

func (s *shell) open(writable bool) (err error) {
	if s.tx != nil {
		return errInTx
	}
	s.tx, err = s.db.Begin(writable)
	s.own = writable
	return err
}

func (s *shell) begin(context.Context, []string) error    { return s.open(true) }
func (s *shell) snapshot(context.Context, []string) error { return s.open(false) }

func (s *shell) commit(context.Context, []string) error {
	if s.tx == nil || !s.own {
		return errors.New("no transaction is open; begin opens one")
	}
	tx := s.tx
	s.tx = nil
	return tx.Commit()
}

func (s *shell) rollback(context.Context, []string) error {
	if s.tx == nil {
		return errors.New("no transaction or snapshot is open")
	}
	s.end()
	return nil
}

// end rolls back what is open.
func (s *shell) end() {
	if s.tx != nil {
		s.tx.Rollback() // of changes that are in DRAM only
		s.tx = nil
	}
}

// explain runs a command and prints the counters that it moved.
func (s *shell) explain(ctx context.Context, words []string) error {
	a, began := s.db.Metrics(), time.Now()
	if err := s.run(ctx, words); err != nil {
		return err
	}
	took, b := time.Since(began), s.db.Metrics()
	return s.print("%s; %s, %s to the medium for %s of keys and values\n%s found in DRAM, %s not; the index has %s\n", span(took),
		plural(b.Fences-a.Fences, "fence"), size(b.MediaBytes-a.MediaBytes), size(b.UserBytes-a.UserBytes),
		plural(b.CacheHits-a.CacheHits, "page"), count(b.CacheMisses-a.CacheMisses), plural(b.IndexHeight, "level"))
}

// complete is term.Terminal's AutoCompleteCallback. Tab completes the command, or a key.
func (s *shell) complete(line string, pos int, key rune) (string, int, bool) {
	if key != '\t' || pos != len(line) {
		return "", 0, false
	}
	at := strings.LastIndexByte(line, ' ') + 1
	word, choices := line[at:], []string(nil)
	if at == 0 {
		for _, c := range shellCommands {
			if strings.HasPrefix(c.name, word) {
				choices = append(choices, c.name)
			}
		}
	} else if s.keysNear(word, &choices) != nil {
		return "", 0, false
	}
	if len(choices) == 0 {
		return "", 0, false
	}
	common := slices.MinFunc(choices, func(a, b string) int { return len(a) - len(b) })
	for _, c := range choices {
		for !strings.HasPrefix(c, common) {
			common = common[:len(common)-1]
		}
	}
	if len(choices) == 1 {
		common += " "
	}
	line = line[:at] + common
	return line, len(line), true
}

// mostCompleted bounds the keys that a completion looks at.
const mostCompleted = 1000

// keysNear appends the keys that begin with a word and can be written without quotes.
func (s *shell) keysNear(word string, choices *[]string) error {
	return s.each(context.Background(), []string{word}, keyRange{keysOnly: true, limit: mostCompleted}, func(rec textrec.Record) error {
		if key := string(rec.Key); isShown(key) && !strings.ContainsAny(key, " \"") {
			*choices = append(*choices, key)
		}
		return nil
	})
}
