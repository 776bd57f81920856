package kv

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime/debug"
	"strconv"
	"strings"
	"testing"
	"time"

	"nvkv/internal/effort"
	"nvkv/nvmap"
)

// hostileEnv makes a process of these tests use the files of seeds, "first-last".
const hostileEnv = "NVKV_HOSTILE_SEEDS"

// hostileHang is the time limit for one file: a hundred times the usual time.
const hostileHang = 60 * time.Second

// hostileChild uses files one after the other. It prints the seed of each file before it begins,
// and then the problems. So the parent knows the file if another goroutine panics or the process
// hangs.
func hostileChild(seeds string) {
	from, to, _ := strings.Cut(seeds, "-")
	first, _ := strconv.ParseUint(from, 10, 64)
	last, _ := strconv.ParseUint(to, 10, 64)
	debug.SetTraceback("all")
	if err := limitHostile(); err != nil {
		panic(err)
	}
	step := "?"
	for seed := first; seed <= last; seed++ {
		fmt.Println("begin", seed)
		watch := time.AfterFunc(hostileHang, func() { panic(fmt.Sprintf("seed %d is stuck in %s", seed, step)) })
		if err := useHostile(hostileSeed(seed), func(s string) { step = s }); err != nil {
			fmt.Printf("wrong %q\n", err.Error())
		}
		watch.Stop()
	}
	fmt.Println("end")
}

// runHostile uses the files of seeds in child processes, and returns the problems by seed.
func runHostile(t *testing.T, first, last uint64) map[uint64]string {
	t.Helper()
	wrong := map[uint64]string{}
	for first <= last {
		cmd := exec.Command(os.Args[0], "-test.run=^$")
		cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%d-%d", hostileEnv, first, last), "GOMEMLIMIT=1GiB")
		var stderr strings.Builder
		cmd.Stderr = &stderr
		out, err := cmd.StdoutPipe()
		must(t, err)
		must(t, cmd.Start())
		at, ended := first, false
		for lines := bufio.NewScanner(out); lines.Scan(); {
			word, rest, _ := strings.Cut(lines.Text(), " ")
			switch word {
			case "begin":
				at, _ = strconv.ParseUint(rest, 10, 64)
			case "wrong":
				wrong[at], _ = strconv.Unquote(rest)
			case "end":
				ended = true
			}
		}
		if err := cmd.Wait(); !ended {
			wrong[at] = fmt.Sprintf("the process ended: %v: %s", err, stderr.String())
		}
		first = at + 1
	}
	return wrong
}

// TestHostile uses files that an adversary made.
func TestHostile(t *testing.T) {
	skipInRace(t)
	first, last := uint64(0), uint64(effort.Pick(10, 40, 2000, 20_000))-1
	if only := os.Getenv("NVKV_HOSTILE"); only != "" {
		from, to, _ := strings.Cut(only, "-")
		first, _ = strconv.ParseUint(from, 10, 64)
		last, _ = strconv.ParseUint(to, 10, 64)
	}
	wrong := runHostile(t, first, last)
	for seed, what := range wrong {
		t.Errorf("seed %d: %.4000s", seed, what)
	}
	t.Logf("%d of %d files", len(wrong), last-first+1)
}

// TestWalkBackToARange: in the file of seed 1347 the keys of a leaf are not in order. A walk of a
// writable Tx that passes a deleted range there does not come back to it for ever.
func TestWalkBackToARange(t *testing.T) {
	image, _, _, err := hostileSeed(1347).file()
	must(t, err)
	dev := nvmap.NewMem(hostileBytes)
	must(t, firstErr(dev.Grow(int64(len(image))), dev.Write(0, image)))
	db, err := OpenDevice(dev, &Options{EvacuateBytes: -1})
	must(t, err)
	defer db.Close()
	var keys []string
	must(t, db.View(func(tx *Tx) error {
		for k := range tx.Keys(nil, nil) {
			keys = append(keys, string(k))
		}
		return tx.Err()
	}))
	refused := 0
	for _, k := range keys {
		tx, err := db.Begin(true)
		must(t, err)
		must(t, tx.DeleteRange([]byte(k), []byte(k+"\x00")))
		c := tx.Cursor()
		c.keysOnly = true
		for _, way := range [][2]func() bool{{c.First, c.Next}, {c.Last, c.Prev}} {
			n := 0
			for ok := way[0](); ok && n <= 2*len(keys); ok = way[1]() {
				n++
			}
			if n > 2*len(keys) {
				t.Fatalf("a walk that passes %.40q met more than %d keys", k, n)
			}
			if c.Err() != nil {
				refused++
			}
		}
		must(t, tx.Rollback())
	}
	t.Logf("%d keys, %d walks refused", len(keys), refused)
	if refused == 0 {
		t.Error("no walk met keys that are not in order")
	}
}

// TestCursorCountsRuns: a cursor that has no more bytes to read in runs refuses a record there, and
// counts anew where it is set out anew.
func TestCursorCountsRuns(t *testing.T) {
	db, err := OpenDevice(nvmap.NewMem(hostileBytes), nil)
	must(t, err)
	defer db.Close()
	large := []byte(strings.Repeat("large ", 20_000))
	must(t, firstErr(db.Put([]byte("a"), large), db.Put([]byte("b"), large)))
	must(t, db.Update(func(tx *Tx) error {
		c := tx.Cursor()
		if !c.First() || c.left != tx.db.bytesLeft()-bytesLeft(len(large)) {
			t.Errorf("%d of %d bytes are left: %v", c.left, tx.db.bytesLeft(), c.Err())
		}
		c.left = bytesLeft(len(large)) - 1
		if c.Next() || !errors.Is(c.Err(), ErrCorrupt) {
			t.Errorf("the second record: %v", c.Err())
		}
		if !c.First() || !c.Next() {
			t.Errorf("once more: %v", c.Err())
		}
		return c.Close()
	}))
}

// TestCursorPassesRangesInOrder: ranges that a walk passes one after the other, the last one open,
// are no sign of damage.
func TestCursorPassesRangesInOrder(t *testing.T) {
	db, err := OpenDevice(nvmap.NewMem(hostileBytes), nil)
	must(t, err)
	defer db.Close()
	for k := 'a'; k <= 'h'; k++ {
		must(t, db.Put([]byte(string(k)), nil))
	}
	must(t, db.Update(func(tx *Tx) error {
		must(t, firstErr(tx.DeleteRange(nil, []byte("b")), tx.DeleteRange([]byte("c"), []byte("d")), tx.DeleteRange([]byte("g"), nil)))
		met := ""
		for k := range tx.All(nil, nil) {
			met += string(k)
			if string(k) == "d" { // ahead, and around the cursor
				must(t, tx.DeleteRange([]byte("c"), []byte("f")))
			}
		}
		for k := range tx.Backward(nil, nil) {
			met += string(k)
		}
		if met != "bdffb" || tx.Err() != nil {
			t.Errorf("%s: %v", met, tx.Err())
		}
		return nil
	}))
}

// FuzzHostile uses the file of a seed.
func FuzzHostile(f *testing.F) {
	for seed := range uint64(8) {
		f.Add(seed)
	}
	f.Add(uint64(1590)) // a range whose ends grew as they were cut
	f.Fuzz(func(t *testing.T, seed uint64) {
		if raceBuild {
			return
		}
		if err := useHostile(hostileSeed(seed), nil); err != nil {
			t.Fatal(err)
		}
	})
}

// TestErrorsOutliveTheStore: the key in an error does not alias a device that may be closed.
func TestErrorsOutliveTheStore(t *testing.T) {
	m := newRotMedium(t, hostileBytes)
	db, err := OpenDevice(keptDevice{m.Device}, nil)
	must(t, err)
	must(t, db.Put([]byte("key"), []byte(strings.Repeat("large ", 10_000))))
	must(t, db.Close())
	image := m.bytes(t)
	image[strings.Index(string(image), "large large")] ^= 1
	dev := nvmap.NewMem(hostileBytes)
	must(t, firstErr(dev.Grow(int64(len(image))), dev.Write(0, image)))
	db, err = OpenDevice(dev, nil)
	must(t, err)
	_, err = db.Get([]byte("key"))
	must(t, db.Close())
	if err == nil || !strings.Contains(err.Error(), `"key"`) {
		t.Errorf("a value that has rotted: %v", err)
	}
}
