package bbolt_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"
)

// TestMaxSizeFull: a database takes puts until Tx.Size has come to MaxSize. Then its largest bucket
// can be deleted, and it takes as many again. Its file has a bound too.
func TestMaxSizeFull(t *testing.T) {
	for _, most := range []int{100 << 10, 300 << 10, 1 << 20, 4 << 20} {
		for _, value := range []int{100, 1500, 5000} {
			t.Run(fmt.Sprintf("%d of %d", most, value), func(t *testing.T) {
				path := filepath.Join(t.TempDir(), "db")
				db, err := bbolt.Open(path, 0o600, &bbolt.Options{MaxSize: most, NoSync: true})
				if err != nil {
					t.Fatal(err)
				}
				for range 3 {
					size := fillUp(t, db, value)
					if size > int64(most) || size < int64(most)*4/5-32<<10 {
						t.Errorf("full with a Size of %d", size)
					}
					if err := db.Update(func(tx *bbolt.Tx) error { return tx.DeleteBucket([]byte("b")) }); err != nil {
						t.Fatalf("deleting the bucket: %v", err)
					}
				}
				if fi, err := os.Stat(path); err != nil || fi.Size() > int64(most)*3/2+1280<<10 {
					t.Errorf("the file has %d bytes: %v", fi.Size(), err)
				}
				check(t, db)
				if err := db.Close(); err != nil {
					t.Fatal(err)
				}
			})
		}
	}
}

// fillUp puts items until there is no room, and returns Tx.Size.
func fillUp(t *testing.T, db *bbolt.DB, value int) (size int64) {
	t.Helper()
	var err error
	step := max(1, 2000/value)
	for n := 0; err == nil; n += step {
		err = db.Update(func(tx *bbolt.Tx) error {
			b, err := tx.CreateBucketIfNotExists([]byte("b"))
			for i := 0; i < step && err == nil; i++ {
				err = b.Put(fmt.Appendf(nil, "%06d", n+i), make([]byte, value))
			}
			return err
		})
	}
	if !errors.Is(err, berrors.ErrMaxSizeReached) {
		t.Errorf("filling it: %v", err)
	}
	if err := db.View(func(tx *bbolt.Tx) error { size = tx.Size(); return nil }); err != nil {
		t.Fatal(err)
	}
	return size
}

// TestSmallMaxSizeLater: a file that was made without a bound opens with a small one.
func TestSmallMaxSizeLater(t *testing.T) {
	path := filepath.Join(t.TempDir(), "db")
	for _, most := range []int{0, 100 << 10} {
		db, err := bbolt.Open(path, 0o600, &bbolt.Options{MaxSize: most})
		if err != nil {
			t.Fatalf("with MaxSize %d: %v", most, err)
		}
		err = db.Update(func(tx *bbolt.Tx) error {
			_, err := tx.CreateBucketIfNotExists(fmt.Append(nil, most))
			return err
		})
		if err != nil {
			t.Errorf("with MaxSize %d: %v", most, err)
		}
		check(t, db)
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
