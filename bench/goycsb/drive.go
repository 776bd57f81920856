package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"runtime/debug"
	"time"

	"github.com/magiconair/properties"
	"github.com/pingcap/go-ycsb/pkg/client"
	"github.com/pingcap/go-ycsb/pkg/measurement"
	"github.com/pingcap/go-ycsb/pkg/prop"
	_ "github.com/pingcap/go-ycsb/pkg/workload" // registers the core workload
	"github.com/pingcap/go-ycsb/pkg/ycsb"

	ours "nvkv/bench/ycsb"
	"nvkv/compat"
)

const noop = "noop"

const gcPercent = 1600

// order holds the instructions for the process that drives one engine.
type order struct {
	Engine, Dir         string
	Records, Operations int
	Threads, ValueBytes int
	Workloads           []string
}

// drive lets go-ycsb load one engine and run each workload on it, and prints
// the nanoseconds per operation of each as JSON.
func drive(ctx context.Context, text string) error {
	var o order
	if err := json.Unmarshal([]byte(text), &o); err != nil {
		return err
	}
	var engine compat.Engine = &nothing{value: make([]byte, o.ValueBytes)}
	if o.Engine != noop {
		var err error
		if engine, err = compat.Open(o.Engine, o.Dir, compat.Options{}); err != nil {
			return err
		}
	}
	defer engine.Close()
	// go-ycsb makes garbage for every operation. The collector's work for it depends on the
	// engine's heap, so it cannot be subtracted. But it can be made rare.
	debug.SetGCPercent(gcPercent)
	result := map[string]float64{}
	for _, workload := range append([]string{"load"}, o.Workloads...) {
		ns, err := o.run(ctx, engine, workload)
		if err != nil {
			return fmt.Errorf("%s on %s: %w", workload, o.Engine, err)
		}
		result[workload] = ns
		// As in this project's benchmark, no workload pays for the pending work of another.
		if err := engine.Flush(); err != nil {
			return fmt.Errorf("flush %s after %s: %w", o.Engine, workload, err)
		}
	}
	return json.NewEncoder(os.Stderr).Encode(result) // go-ycsb writes to standard output
}

func (o order) run(ctx context.Context, engine compat.Engine, workload string) (float64, error) {
	p, err := o.settings(workload)
	if err != nil {
		return 0, err
	}
	measurement.InitMeasure(p)
	core, err := ycsb.GetWorkloadCreator("core").Create(p)
	if err != nil {
		return 0, err
	}
	defer core.Close()
	db := &adapter{engine: engine}
	start := time.Now()
	client.NewClient(p, core, client.DbWrapper{DB: db}).Run(ctx)
	took := time.Since(start)
	if n := db.failures.Load(); n > 0 {
		return 0, fmt.Errorf("%d operations failed, the first with: %w", n, db.failure)
	}
	ops := o.Operations
	if workload == "load" {
		ops = o.Records
	}
	if n := db.missing.Load(); n > uint64(ops)/1000 {
		return 0, fmt.Errorf("%d of %d operations found no record", n, ops)
	}
	return float64(took.Nanoseconds()) * float64(o.Threads) / float64(ops), ctx.Err()
}

// settings are the properties of one workload, as this project's benchmark
// sets them.
func (o order) settings(workload string) (*properties.Properties, error) {
	p := properties.NewProperties()
	if workload != "load" {
		core, err := ours.Core(workload)
		if err != nil {
			return nil, err
		}
		for name, value := range core {
			p.Set(name, value)
		}
	}
	for name, value := range map[string]any{
		prop.RecordCount: o.Records, prop.OperationCount: o.Operations, prop.ThreadCount: o.Threads,
		prop.FieldCount: 1, prop.FieldLength: o.ValueBytes, prop.ZeroPadding: 19,
		prop.DoTransactions: workload != "load", prop.LogInterval: 3600, prop.WarmUpTime: 0, prop.Workload: "core",
	} {
		p.Set(name, fmt.Sprint(value))
	}
	return p, nil
}
