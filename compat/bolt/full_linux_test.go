package bbolt_test

import (
	"fmt"
	"path/filepath"
	"syscall"
	"testing"

	"go.etcd.io/bbolt"
)

// TestDeleteBucketOnFullFileSystem: a file system of 16 MiB is filled by items of a bucket, beside
// nested buckets. Then items and buckets can be deleted, and as much put again.
func TestDeleteBucketOnFullFileSystem(t *testing.T) {
	for _, value := range []int{100, 5000, 200_000} {
		t.Run(fmt.Sprint(value), func(t *testing.T) { deleteBucketWhenFull(t, value) })
	}
}

func deleteBucketWhenFull(t *testing.T, value int) {
	dir := t.TempDir()
	if err := syscall.Mount("nvkv-test", dir, "tmpfs", 0, "size=16m"); err != nil {
		t.Skipf("mounting a tmpfs: %v", err)
	}
	db, err := bbolt.Open(filepath.Join(dir, "db"), 0o600, &bbolt.Options{NoSync: true})
	t.Cleanup(func() {
		if db != nil {
			_ = db.Close()
		}
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	first := 0
	for round := range 2 {
		n := 0
		for err = nil; err == nil; n++ {
			err = db.Update(func(tx *bbolt.Tx) error {
				b, err := tx.CreateBucketIfNotExists([]byte("large"))
				if err == nil {
					_, err = b.CreateBucketIfNotExists(fmt.Appendf(nil, "nested%d", n%5))
				}
				for i := 0; i < max(1, 20_000/value) && err == nil; i++ {
					err = b.Put(fmt.Appendf(nil, "%06d.%04d", n, i), make([]byte, value))
				}
				return err
			})
		}
		t.Logf("round %d: full after %d transactions: %v", round, n, err)
		if round == 0 {
			first = n
		} else if n < first*3/4 {
			t.Errorf("round %d: full after %d transactions, at first %d", round, n, first)
		}
		for what, fn := range map[string]func(b *bbolt.Bucket) error{
			"an item":         func(b *bbolt.Bucket) error { return b.Delete([]byte("000003.0000")) },
			"a nested bucket": func(b *bbolt.Bucket) error { return b.DeleteBucket([]byte("nested1")) },
		} {
			if err := db.Update(func(tx *bbolt.Tx) error { return fn(tx.Bucket([]byte("large"))) }); err != nil {
				t.Fatalf("round %d, deleting %s: %v", round, what, err)
			}
		}
		if err := db.Update(func(tx *bbolt.Tx) error { return tx.DeleteBucket([]byte("large")) }); err != nil {
			t.Fatalf("round %d, deleting the bucket: %v", round, err)
		}
		check(t, db)
	}
}
