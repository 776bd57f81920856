package kv_test

import (
	"encoding/json"
	"expvar"
	"fmt"

	"nvkv/kv"
)

// A line publishes the metrics of a store at /debug/vars.
func ExampleDB_Metrics() {
	db, err := kv.Open("", &kv.Options{Device: "mem"})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer db.Close()
	expvar.Publish("nvkv", expvar.Func(func() any { return db.Metrics() }))
	if err := db.Put([]byte("colour"), []byte("blue")); err != nil {
		fmt.Println(err)
	}

	var served struct{ Keys, Puts int }
	if err := json.Unmarshal([]byte(expvar.Get("nvkv").String()), &served); err != nil {
		fmt.Println(err)
	}
	fmt.Println(served.Keys, "key,", served.Puts, "put")
	// Output: 1 key, 1 put
}
