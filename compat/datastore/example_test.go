package nvkvdatastore_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	ds "github.com/ipfs/go-datastore"
	"github.com/ipfs/go-datastore/query"
	nvkvdatastore "nvkv/compat/datastore"
)

func Example() {
	dir, err := os.MkdirTemp("", "nvkvdatastore")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	ctx := context.Background()
	store, err := nvkvdatastore.Open(filepath.Join(dir, "store.nv"), nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer store.Close()
	batch, _ := store.Batch(ctx)
	_ = batch.Put(ctx, ds.NewKey("/fruit/apple"), []byte("red"))
	_ = batch.Put(ctx, ds.NewKey("/fruit/lemon"), []byte("yellow"))
	if err := batch.Commit(ctx); err != nil {
		fmt.Println(err)
		return
	}
	for entry, err := range ds.QueryIter(ctx, store, query.Query{Prefix: "/fruit"}) {
		fmt.Println(entry.Key, string(entry.Value), err)
	}
	// Output:
	// /fruit/apple red <nil>
	// /fruit/lemon yellow <nil>
}
