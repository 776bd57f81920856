package nvkvethdb_test

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/ethereum/go-ethereum/ethdb"
	nvkvethdb "nvkv/compat/ethdb"
	"nvkv/kv"
)

func Example() {
	dir, err := os.MkdirTemp("", "nvkvethdb")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	// Relaxed: as in geth's own stores, writes wait for SyncKeyValue.
	store, err := nvkvethdb.Open(filepath.Join(dir, "chaindata.nv"), &kv.Options{Durability: kv.Relaxed})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer store.Close()
	var db ethdb.KeyValueStore = store
	batch := db.NewBatch()
	_ = batch.Put([]byte("h1"), []byte("header 1"))
	_ = batch.Put([]byte("h2"), []byte("header 2"))
	if err := batch.Write(); err != nil {
		fmt.Println(err)
		return
	}
	it := db.NewIterator([]byte("h"), []byte("2"))
	defer it.Release()
	for it.Next() {
		fmt.Printf("%s: %s\n", it.Key(), it.Value())
	}
	fmt.Println(it.Error(), db.SyncKeyValue())
	// Output:
	// h2: header 2
	// <nil> <nil>
}
