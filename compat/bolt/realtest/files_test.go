package realtest

import (
	"fmt"
	"math/rand/v2"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"go.etcd.io/bbolt"
)

// exchange runs the command that uses the drop-in.
func exchange(t *testing.T, args ...string) string {
	t.Helper()
	c := exec.Command("go", append([]string{"run", "./internal/exchange"}, args...)...)
	c.Dir = ".."
	out, err := c.CombinedOutput()
	if err != nil {
		t.Fatalf("exchange %v: %v\n%s", args, err, out)
	}
	return string(out)
}

// made makes a database with bbolt, of what its own tests have trouble with: values
// around half a page, long keys, buckets inside their entries and not, deletes.
func made(t *testing.T, path string, seed uint64) {
	t.Helper()
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{NoSync: true, NoFreelistSync: seed%2 == 0})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	r := rand.New(rand.NewPCG(seed, 0))
	for range 5 {
		err := db.Update(func(tx *bbolt.Tx) error {
			for range 200 {
				b, err := tx.CreateBucketIfNotExists(fmt.Appendf(nil, "bucket %d", r.IntN(5)))
				for err == nil && r.IntN(2) == 0 {
					b, err = b.CreateBucketIfNotExists(fmt.Appendf(nil, "nested %d", r.IntN(20)))
				}
				if err == nil {
					err = b.Put(fmt.Appendf(nil, "%d%s", r.IntN(300), strings.Repeat("k", r.IntN(1<<r.IntN(13)))), make([]byte, r.IntN(1<<r.IntN(14))))
				}
				if err == nil {
					err = b.SetSequence(r.Uint64N(10))
				}
				if err == nil {
					err = b.Delete(fmt.Appendf(nil, "%d", r.IntN(300)))
				}
				if err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

// dumped returns what exchange dump prints, of a file that bbolt opens and checks.
func dumped(t *testing.T, path string) string {
	t.Helper()
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	var out strings.Builder
	err = db.View(func(tx *bbolt.Tx) error {
		for err := range tx.Check() {
			t.Error(err)
		}
		return tx.ForEach(func(name []byte, b *bbolt.Bucket) error { return dump(&out, string(name), b) })
	})
	if err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func dump(out *strings.Builder, path string, b *bbolt.Bucket) error {
	fmt.Fprintf(out, "%q %d\n", path, b.Sequence())
	return b.ForEach(func(k, v []byte) error {
		if v == nil {
			return dump(out, path+"/"+string(k), b.Bucket(k))
		}
		fmt.Fprintf(out, "%q %q %x\n", path, k, v)
		return nil
	})
}

// TestFilesBothWays: a file of bbolt is imported whole, and a copy of that is a file that
// bbolt opens, that its command finds nothing wrong with, and that holds the same.
func TestFilesBothWays(t *testing.T) {
	for seed := range uint64(3) {
		dir := t.TempDir()
		path, back := filepath.Join(dir, "db"), filepath.Join(dir, "copy")
		made(t, path, seed)
		want := dumped(t, path)
		if got := exchange(t, "dump", path); got != want {
			t.Errorf("seed %d: after the import %d bytes of content, before %d", seed, len(got), len(want))
		}
		exchange(t, "copy", path, back)
		if got := dumped(t, back); got != want {
			t.Errorf("seed %d: the copy has %d bytes of content, want %d", seed, len(got), len(want))
		}
		if out, err := exec.Command("go", "tool", "bbolt", "check", back).CombinedOutput(); err != nil || !strings.Contains(string(out), "OK") {
			t.Errorf("seed %d: bbolt check: %v\n%s", seed, err, out)
		}
	}
}
