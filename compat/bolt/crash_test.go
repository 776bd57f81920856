package bbolt_test

import (
	"bufio"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"go.etcd.io/bbolt"
)

// crashVariable has the test binary be the process that is killed: it names the
// database, and crashFrom the step at which it goes on.
const (
	crashVariable = "NVKV_BOLT_CRASH"
	crashFrom     = "NVKV_BOLT_CRASH_FROM"
	crashSeed     = 7
	crashSteps    = 6 // in a transaction
)

func TestMain(m *testing.M) {
	if path := os.Getenv(crashVariable); path != "" {
		fmt.Println(work(path))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// crashRound does the steps of transaction n on the model, and returns those that can be
// done.
func crashRound(m *tree, n int) (steps []step) {
	r := rand.New(rand.NewPCG(crashSeed, uint64(n)))
	for range crashSteps {
		if s := randomStep(r); m.do(s) {
			steps = append(steps, s)
		}
	}
	return steps
}

// work does transaction after transaction, and prints the number of each that was
// committed.
func work(path string) error {
	from, err := strconv.Atoi(os.Getenv(crashFrom))
	if err != nil {
		return err
	}
	model := newTree()
	for n := range from {
		crashRound(model, n)
	}
	db, err := bbolt.Open(path, 0o600, nil)
	if err != nil {
		return err
	}
	for n := from; ; n++ {
		steps := crashRound(model, n)
		err := db.Update(func(tx *bbolt.Tx) error {
			for _, s := range steps {
				if err := s.do(tx); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
		fmt.Println(n)
	}
}

// TestKill: a process is killed while it puts, makes, moves and deletes nested buckets.
// What it was told is there when the database is opened again, each transaction is there as
// a whole or not at all, and nothing is left of buckets that are deleted.
func TestKill(t *testing.T) {
	path := filepath.Join(t.TempDir(), "db")
	rounds := 6
	if os.Getenv("NVKV_TEST") != "" {
		rounds = 60
	}
	next := 0
	for round := range rounds {
		told := killed(t, path, next, time.Duration(20+13*round%60)*time.Millisecond)
		next = survived(t, path, told)
	}
	if next < rounds {
		t.Errorf("%d transactions in %d rounds", next, rounds)
	}
}

// killed runs a process that goes on at transaction from, kills it when it has done some
// work for so long, and returns how many it said it had committed.
func killed(t *testing.T, path string, from int, after time.Duration) (told int) {
	t.Helper()
	c := exec.Command(os.Args[0])
	c.Env = append(os.Environ(), crashVariable+"="+path, crashFrom+"="+strconv.Itoa(from))
	c.Stderr = os.Stderr
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	told = from
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		n, err := strconv.Atoi(lines.Text())
		if err != nil {
			t.Errorf("it says %q", lines.Text())
			break
		}
		if n == from {
			time.AfterFunc(after, func() { _ = c.Process.Kill() })
		}
		told = n + 1
	}
	_ = c.Process.Kill()
	_ = c.Wait()
	return told
}

// survived opens the database, compares it with the model, and returns how many
// transactions are there.
func survived(t *testing.T, path string, told int) int {
	t.Helper()
	db, err := bbolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	check(t, db)
	model := newTree()
	for n := range told {
		crashRound(model, n)
	}
	var got string
	if err := db.View(func(tx *bbolt.Tx) error { got = treeOf(tx).String(); return nil }); err != nil {
		t.Fatal(err)
	}
	if got == model.String() {
		return told
	}
	before := model.String()
	if crashRound(model, told); got == model.String() {
		return told + 1
	}
	t.Fatalf("%d transactions were acknowledged; it holds\n%s\nand is to hold\n%s", told, got, before)
	return 0
}

// TestModel: random work, by transactions that are committed or rolled back, does what a
// model says, and the books agree.
func TestModel(t *testing.T) {
	db := open(t, &bbolt.Options{NoSync: true})
	model := newTree()
	r := rand.New(rand.NewPCG(1, 2))
	for n := range 300 {
		fail := r.IntN(4) == 0
		before, steps := model.String(), crashRound(model, n)
		err := db.Update(func(tx *bbolt.Tx) error {
			for _, s := range steps {
				if err := s.do(tx); err != nil {
					t.Error(err)
				}
			}
			if got := treeOf(tx).String(); got != model.String() {
				t.Errorf("inside transaction %d:\n%s\nwant\n%s", n, got, model)
			}
			if fail {
				return errRollback
			}
			return nil
		})
		want := model.String()
		if fail {
			if err != errRollback {
				t.Fatal(err)
			}
			want = before
		}
		_ = db.View(func(tx *bbolt.Tx) error {
			if got := treeOf(tx).String(); got != want {
				t.Fatalf("after transaction %d:\n%s\nwant\n%s", n, got, want)
			}
			if fail {
				model = treeOf(tx)
			}
			return nil
		})
	}
	check(t, db)
}

var errRollback = fmt.Errorf("to be rolled back")
