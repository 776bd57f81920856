package kvprom_test

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"

	"nvkv/kv"
	"nvkv/kv/kvprom"
)

func Example() {
	db, err := kv.Open("", &kv.Options{Device: "mem", TimeOneIn: 64})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer db.Close()
	if err := db.Put([]byte("colour"), []byte("blue")); err != nil {
		fmt.Println(err)
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(kvprom.New(db, "colours"))
	families, err := registry.Gather()
	if err != nil {
		fmt.Println(err)
	}
	for _, f := range families {
		if f.GetName() == "nvkv_keys" {
			fmt.Println(f.GetName(), f.GetMetric()[0].GetGauge().GetValue())
		}
	}
	// Output: nvkv_keys 1
}
