package kv_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"nvkv/kv"
)

// tempStore opens a store that is removed after the example. On /dev/shm instead of a temporary
// directory it would be emulated NVM.
func tempStore() (db *kv.DB, remove func()) {
	dir, err := os.MkdirTemp("", "nvkv-example-")
	if err != nil {
		log.Fatal(err)
	}
	db, err = kv.Open(filepath.Join(dir, "store"), nil)
	if err != nil {
		log.Fatal(err)
	}
	return db, func() {
		if err := errors.Join(db.Close(), os.RemoveAll(dir)); err != nil {
			log.Fatal(err)
		}
	}
}

func Example() {
	db, remove := tempStore()
	defer remove()

	// It is durable when Put returns.
	if err := db.Put([]byte("blue"), []byte("#0000ff")); err != nil {
		log.Fatal(err)
	}
	v, err := db.Get([]byte("blue"))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("blue is %s\n", v)

	_, err = db.Get([]byte("octarine"))
	fmt.Println(errors.Is(err, kv.ErrNotFound))
	// Output:
	// blue is #0000ff
	// true
}

// A store outlives the DB that wrote it.
func ExampleOpen() {
	dir, err := os.MkdirTemp("", "nvkv-example-")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "store")

	db, err := kv.Open(path, nil) // creates it
	if err != nil {
		log.Fatal(err)
	}
	if err := db.Put([]byte("written by"), []byte("the first")); err != nil {
		log.Fatal(err)
	}
	if err := db.Close(); err != nil {
		log.Fatal(err)
	}

	db, err = kv.Open(path, &kv.Options{ReadOnly: true})
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close()
	v, err := db.Get([]byte("written by"))
	fmt.Printf("%s %v\n", v, err)
	fmt.Println(db.Put([]byte("k"), []byte("v")))
	// Output:
	// the first <nil>
	// nvkv: read-only
}

// A reused buffer makes reads free of allocations.
func ExampleDB_GetAppend() {
	db, remove := tempStore()
	defer remove()
	for _, k := range []string{"red", "green", "blue"} {
		if err := db.Put([]byte(k), []byte("the colour "+k)); err != nil {
			log.Fatal(err)
		}
	}
	var buf []byte
	for _, k := range []string{"green", "blue"} {
		var err error
		if buf, err = db.GetAppend(buf[:0], []byte(k)); err != nil {
			log.Fatal(err)
		}
		fmt.Printf("%s\n", buf)
	}
	// Output:
	// the colour green
	// the colour blue
}

// A batch counts as a whole or not at all, for readers and after a crash.
func ExampleDB_Write() {
	db, remove := tempStore()
	defer remove()
	if err := db.Put([]byte("from"), []byte("10")); err != nil {
		log.Fatal(err)
	}

	b := db.NewBatch()
	b.Delete([]byte("from"))
	b.Put([]byte("to"), []byte("10"))
	if err := db.Write(b); err != nil {
		log.Fatal(err)
	}

	for _, k := range []string{"from", "to"} {
		found, err := db.Has([]byte(k))
		fmt.Println(k, found, err)
	}
	// Output:
	// from false <nil>
	// to true <nil>
}

// A snapshot does not change with later writes.
func ExampleDB_View() {
	db, remove := tempStore()
	defer remove()
	b := db.NewBatch()
	for _, k := range []string{"ant", "bear", "bee", "crow"} {
		b.Put([]byte(k), fmt.Appendf(nil, "%d letters", len(k)))
	}
	if err := db.Write(b); err != nil {
		log.Fatal(err)
	}

	err := db.View(func(tx *kv.Tx) error {
		if err := db.Delete([]byte("bee")); err != nil {
			return err
		}
		for k, v := range tx.Prefix([]byte("be")) {
			fmt.Printf("%s: %s\n", k, v) // valid until the next step
		}
		for k := range tx.Backward([]byte("b"), nil) {
			fmt.Printf("backward: %s\n", k)
		}
		return tx.Err() // the error that ended an iteration early, or nil
	})
	if err != nil {
		log.Fatal(err)
	}
	found, err := db.Has([]byte("bee"))
	fmt.Println("bee is there:", found, err)
	// Output:
	// bear: 4 letters
	// bee: 3 letters
	// backward: crow
	// backward: bee
	// backward: bear
	// bee is there: false <nil>
}

// No other writer comes between the reads and the writes of fn.
func ExampleDB_Update() {
	db, remove := tempStore()
	defer remove()
	if err := db.Put([]byte("stock/apples"), []byte("7")); err != nil {
		log.Fatal(err)
	}

	take := func(n int) error {
		return db.Update(func(tx *kv.Tx) error {
			v, err := tx.Get([]byte("stock/apples"))
			if err != nil {
				return err
			}
			have, err := strconv.Atoi(string(v))
			if err != nil {
				return err
			}
			if have < n {
				return fmt.Errorf("%d apples asked for, there are %d", n, have) // nothing is changed
			}
			if err := tx.Put([]byte("stock/apples"), strconv.AppendInt(nil, int64(have-n), 10)); err != nil {
				return err
			}
			return tx.Put([]byte("sold/apples"), strconv.AppendInt(nil, int64(n), 10))
		})
	}
	fmt.Println(take(5))
	fmt.Println(take(5))
	// Output:
	// <nil>
	// 5 apples asked for, there are 2
}

// A request that is cancelled while it waits for other writers changes nothing.
func ExampleDB_UpdateContext() {
	db, remove := tempStore()
	defer remove()
	other, err := db.Begin(true) // other writers wait from here on
	if err != nil {
		log.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
	defer cancel()
	err = db.UpdateContext(ctx, func(tx *kv.Tx) error { return tx.Put([]byte("k"), []byte("v")) })
	fmt.Println(errors.Is(err, context.DeadlineExceeded), other.Rollback())
	found, err := db.Has([]byte("k"))
	fmt.Println(found, err)
	// Output:
	// true <nil>
	// false <nil>
}

// A large value is read in parts, at any offset, without the whole of it in memory.
func ExampleTx_Reader() {
	db, remove := tempStore()
	defer remove()
	if err := db.Put([]byte("film"), append(make([]byte, 1<<20), "The end"...)); err != nil {
		log.Fatal(err)
	}
	err := db.View(func(tx *kv.Tx) error {
		r, err := tx.Reader([]byte("film"))
		if err != nil {
			return err
		}
		end := make([]byte, 7)
		if _, err := r.ReadAt(end, r.Size()-7); err != nil {
			return err
		}
		fmt.Printf("%d bytes, %s\n", r.Size(), end)
		return nil
	})
	if err != nil {
		log.Fatal(err)
	}
	// Output: 1048583 bytes, The end
}

// Several workers may try to claim a job; one of them gets it. A worker gives the job back only if it
// still has it.
func ExampleDB_PutIfAbsent() {
	db, remove := tempStore()
	defer remove()
	for _, worker := range []string{"ann", "ben"} {
		claimed, err := db.PutIfAbsent([]byte("job/7"), []byte(worker))
		fmt.Println(worker, claimed, err)
	}
	for _, worker := range []string{"ben", "ann"} {
		released, err := db.CompareAndDelete([]byte("job/7"), []byte(worker))
		fmt.Println(worker, released, err)
	}
	// Output:
	// ann true <nil>
	// ben false <nil>
	// ben false <nil>
	// ann true <nil>
}

// A counter without a transaction: read, compute, swap, and again if another writer was faster.
func ExampleDB_CompareAndSwap() {
	db, remove := tempStore()
	defer remove()
	if err := db.Put([]byte("visits"), []byte("41")); err != nil {
		log.Fatal(err)
	}
	for {
		old, err := db.Get([]byte("visits"))
		if err != nil {
			log.Fatal(err)
		}
		n, err := strconv.Atoi(string(old))
		if err != nil {
			log.Fatal(err)
		}
		swapped, err := db.CompareAndSwap([]byte("visits"), old, strconv.AppendInt(nil, int64(n+1), 10))
		if err != nil {
			log.Fatal(err)
		}
		if swapped {
			break
		}
	}
	v, err := db.Get([]byte("visits"))
	fmt.Printf("%s %v\n", v, err)
	// Output: 42 <nil>
}

// A cursor moves in both directions and starts anywhere.
func ExampleTx_Cursor() {
	db, remove := tempStore()
	defer remove()
	b := db.NewBatch()
	for i := range 5 {
		b.Put(fmt.Appendf(nil, "2026-01-%02d", 5*i+1), fmt.Appendf(nil, "%d visitors", 100*i))
	}
	if err := db.Write(b); err != nil {
		log.Fatal(err)
	}
	err := db.View(func(tx *kv.Tx) error {
		c := tx.Cursor()
		defer c.Close()
		for ok := c.Seek([]byte("2026-01-10")); ok; ok = c.Next() {
			fmt.Printf("%s: %s\n", c.Key(), c.Value())
		}
		if c.SeekLT([]byte("2026-01-10")) {
			fmt.Printf("the day before: %s\n", c.Key())
		}
		return c.Err()
	})
	if err != nil {
		log.Fatal(err)
	}
	// Output:
	// 2026-01-11: 200 visitors
	// 2026-01-16: 300 visitors
	// 2026-01-21: 400 visitors
	// the day before: 2026-01-06
}

// A session that expires after a while.
func ExampleDB_PutTTL() {
	db, remove := tempStore()
	defer remove()
	if err := db.PutTTL([]byte("session"), []byte("alice"), 30*time.Minute); err != nil {
		log.Fatal(err)
	}
	if err := db.PutTTL([]byte("blink"), []byte("bob"), time.Nanosecond); err != nil {
		log.Fatal(err)
	}
	time.Sleep(time.Millisecond)
	for _, k := range []string{"session", "blink"} {
		found, err := db.Has([]byte(k))
		fmt.Println(k, found, err)
	}
	// Output:
	// session true <nil>
	// blink false <nil>
}
