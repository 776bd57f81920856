package bbolt

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"path/filepath"
	"testing"

	"nvkv/compat/boltfile"
)

func openFor(t testing.TB, o *Options) *DB {
	t.Helper()
	db, err := Open(filepath.Join(t.TempDir(), "db"), 0o600, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return db
}

// fileOf returns what the content of db takes as a file, and what the books say.
func fileOf(t testing.TB, db *DB) (length, promised int64) {
	t.Helper()
	err := db.View(func(tx *Tx) (err error) {
		length, err = boltfile.Measure(&boltfile.WriteOptions{PageBytes: db.page}, func(w *boltfile.BucketWriter) error { return tx.root.writeTo(w) })
		promised = tx.known().bytes()
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return length, promised
}

// shapes are contents whose file is hard to foresee.
var shapes = []struct {
	name string
	fill func(r *rand.Rand, tx *Tx) error
}{
	{"empty", func(r *rand.Rand, tx *Tx) error { return nil }},
	{"empty bucket", items(1, same(0), same(0))},
	{"tiny", items(5000, same(8), same(4))},
	{"as many as a page holds", items(3000, same(16), same(48))},
	{"half pages", items(1000, same(16), near(2048))},
	{"half pages and little ones", items(2000, same(16), either(near(2020), near(20)))},
	{"thirds and two thirds", items(1000, same(16), either(near(1340), near(2700)))},
	{"tenth and nine tenths", items(1000, same(16), either(near(400), near(3650)))},
	{"whole pages", items(500, same(16), near(4064))},
	{"two pages", items(200, same(16), near(8144))},
	{"large", items(20, same(16), near(300_000))},
	{"long keys", items(300, near(2000), near(10))},
	{"keys of a page", items(200, near(4060), near(10))},
	{"longest keys", items(40, near(32_700), near(10))},
	{"few long keys among short ones", items(3000, rarely(near(32_000), same(16)), near(40))},
	{"middling keys among short ones", items(3000, either(near(300), same(16)), near(400))},
	{"nested buckets of nothing", nestedBuckets(2000, 0, 0)},
	{"nested buckets of little", nestedBuckets(1000, 3, 100)},
	{"nested buckets at the bound of inline ones", nestedBuckets(500, 4, 230)},
	{"nested buckets of two leaves", nestedBuckets(200, 3, 2000)},
	{"buckets in buckets", deepBuckets(300)},
	{"all at random", anything},
}

func same(n int) func(*rand.Rand) int { return func(*rand.Rand) int { return n } }
func near(n int) func(*rand.Rand) int {
	return func(r *rand.Rand) int { return max(0, n-8+r.IntN(17)) }
}
func either(a, b func(*rand.Rand) int) func(*rand.Rand) int {
	turn := 0
	return func(r *rand.Rand) int {
		if turn++; turn%2 == 0 {
			return a(r)
		}
		return b(r)
	}
}
func rarely(a, b func(*rand.Rand) int) func(*rand.Rand) int {
	turn := 0
	return func(r *rand.Rand) int {
		if turn++; turn%100 == 1 {
			return a(r)
		}
		return b(r)
	}
}

func put(b *Bucket, i, key, value int) error {
	k := fmt.Appendf(nil, "%08d", i)
	return b.Put(append(k, make([]byte, max(0, key-len(k)))...), make([]byte, value))
}

func items(n int, key, value func(*rand.Rand) int) func(*rand.Rand, *Tx) error {
	return func(r *rand.Rand, tx *Tx) error {
		b, err := tx.CreateBucket([]byte("b"))
		for i := 0; i < n && err == nil; i++ {
			err = put(b, i, key(r), value(r))
		}
		return err
	}
}

func nestedBuckets(n, each, value int) func(*rand.Rand, *Tx) error {
	return func(r *rand.Rand, tx *Tx) error {
		top, err := tx.CreateBucket([]byte("top"))
		if err != nil {
			return err
		}
		for i := range n {
			b, err := top.CreateBucket(fmt.Appendf(nil, "%06d", i))
			for j := 0; j < each && err == nil; j++ {
				err = put(b, j, 8, value+r.IntN(9))
			}
			if err != nil {
				return err
			}
		}
		return nil
	}
}

func deepBuckets(n int) func(*rand.Rand, *Tx) error {
	return func(r *rand.Rand, tx *Tx) error {
		for i := range n {
			b, err := tx.CreateBucket(fmt.Appendf(nil, "%06d", i))
			if err == nil {
				b, err = b.CreateBucket([]byte("nested"))
			}
			if err == nil && i%2 == 0 {
				_, err = b.CreateBucket([]byte("nested"))
			}
			if err != nil {
				return err
			}
		}
		return nil
	}
}

func anything(r *rand.Rand, tx *Tx) error {
	b, err := tx.CreateBucket([]byte("b"))
	for i := 0; i < 2000 && err == nil; i++ {
		switch r.IntN(20) {
		case 0:
			b, err = b.CreateBucket(fmt.Appendf(nil, "bucket %d", i))
			if err == nil && r.IntN(2) == 0 {
				b, err = tx.CreateBucketIfNotExists(fmt.Appendf(nil, "%d", i))
			}
		case 1:
			err = put(b, i, r.IntN(5000), r.IntN(10_000))
		default:
			err = put(b, i, r.IntN(100), r.IntN(1<<r.IntN(13)))
		}
	}
	return err
}

// TestSizeBoundsFile: Size is never below what WriteTo takes, is not many times as
// much, and WriteTo writes exactly as many bytes.
func TestSizeBoundsFile(t *testing.T) {
	for _, page := range []int{4096, 1024, 65536} {
		for _, s := range shapes {
			t.Run(fmt.Sprintf("%s in %d", s.name, page), func(t *testing.T) {
				r := rand.New(rand.NewPCG(1, uint64(page)))
				db := openFor(t, &Options{PageSize: page, NoSync: true})
				if err := db.Update(func(tx *Tx) error { return s.fill(r, tx) }); err != nil {
					t.Fatal(err)
				}
				length, promised := fileOf(t, db)
				if promised < length {
					t.Errorf("the file has %d bytes, the books say %d", length, promised)
				}
				t.Logf("%d bytes promised, %d needed: %.2f", promised, length, float64(promised)/float64(length))
				checkWriteTo(t, db)
			})
		}
	}
}

func checkWriteTo(t testing.TB, db *DB) {
	t.Helper()
	err := db.View(func(tx *Tx) error {
		var out bytes.Buffer
		n, err := tx.WriteTo(&out)
		if err != nil {
			return err
		}
		if n != tx.Size() || int64(out.Len()) != n || n%512 != 0 {
			t.Errorf("WriteTo wrote %d bytes and says %d, Size says %d", out.Len(), n, tx.Size())
		}
		f, err := boltfile.NewFile(bytes.NewReader(out.Bytes()), n)
		if err != nil {
			return err
		}
		f.Check(func(err error) bool { t.Error(err); return false })
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestSizeFalls: what is deleted is free at once, and gone from a copy.
func TestSizeFalls(t *testing.T) {
	db := openFor(t, nil)
	if err := db.Update(func(tx *Tx) error { return items(10_000, same(16), same(100))(nil, tx) }); err != nil {
		t.Fatal(err)
	}
	full := sizeOf(t, db)
	err := db.Update(func(tx *Tx) error {
		c := tx.Bucket([]byte("b")).Cursor()
		n := 0
		for k, _ := c.First(); k != nil && n < 9000; k, _ = c.Next() {
			if err := c.Delete(); err != nil {
				return err
			}
			n++
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	left := sizeOf(t, db)
	free := int64(db.Stats().FreePageN) * int64(db.Info().PageSize)
	if left > full || left-free > full/5 {
		t.Errorf("%d bytes before, %d after, %d of them free", full, left, free)
	}
	to := openFor(t, nil)
	if err := Compact(to, db, 100_000); err != nil {
		t.Fatal(err)
	}
	if n := sizeOf(t, to); n > left-free+4096 {
		t.Errorf("%d bytes in the copy of %d, of which %d are free", n, left, free)
	}
}

func sizeOf(t testing.TB, db *DB) (size int64) {
	t.Helper()
	if err := db.View(func(tx *Tx) error { size = tx.Size(); return nil }); err != nil {
		t.Fatal(err)
	}
	return size
}

// TestWriteToRefusesMore: a file that would be longer than Size says is not written.
func TestWriteToRefusesMore(t *testing.T) {
	out := &bounded{w: io.Discard, left: 10}
	if _, err := out.Write(make([]byte, 11)); err == nil {
		t.Error("no error")
	}
}
