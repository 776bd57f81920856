package protocol

import (
	"fmt"
	"testing"

	"nvkv/internal/effort"
)

// bounds lists the explorations. Each has a feature or two, at a depth at which all features
// together would have too many histories.
var bounds = []struct {
	name string
	Config
}{
	{"any slot", Config{Slots: 4, Operations: 4, Crashes: 2, AnySlot: true, Deletes: true, Checkpoints: true}},
	{"batches", Config{Slots: 4, Operations: 4, Crashes: 2, Batches: true, Deletes: true}},
	{"kills", Config{Slots: 4, Operations: 4, Crashes: 2, Kills: true, Batches: true, Deletes: true, Checkpoints: true}},
	{"three crashes", Config{Slots: 4, Operations: 4, Crashes: 3, Deletes: true, Batches: true}},
	{"checkpoints", Config{Slots: 4, Operations: 6, Crashes: 2, Deletes: true, Checkpoints: true}},
	{"ranges", Config{Slots: 4, Operations: 5, Crashes: 2, Ranges: true, Checkpoints: true}},
	{"moves", Config{Slots: 4, Operations: 5, Crashes: 2, Moves: true, Deletes: true, Checkpoints: true}},
	{"expiry", Config{Slots: 4, Operations: 5, Crashes: 2, Expiry: true, Checkpoints: true}},
	{"groups", Config{Slots: 6, Operations: 5, Crashes: 2, Relaxed: true}},
	{"groups, any slot", Config{Slots: 5, Operations: 4, Crashes: 1, Relaxed: true, AnySlot: true}},
	{"groups and the rest", Config{Slots: 6, Operations: 4, Crashes: 2, Relaxed: true, Checkpoints: true, Ranges: true, Deletes: true}},
	{"lanes", Config{Slots: 4, Operations: 4, Crashes: 2, Kills: true, Lanes: 2, Deletes: true}},
	{"lanes, any slot", Config{Slots: 4, Operations: 3, Crashes: 2, Kills: true, Lanes: 2, Deletes: true, AnySlot: true}},
	{"lanes, one leaf", Config{Slots: 4, Operations: 4, Crashes: 1, Lanes: 2, OneLeaf: true, Keys: 3, Deletes: true, Moves: true}},
	{"lanes, checkpoints", Config{Slots: 6, Operations: 5, Crashes: 2, Lanes: 2, Checkpoints: true, Deletes: true}},
	{"lanes, snapshots", Config{Slots: 6, Operations: 5, Crashes: 1, Lanes: 2, Snapshots: true, Deletes: true, Checkpoints: true}},
	{"three lanes", Config{Slots: 6, Operations: 4, Crashes: 1, Kills: true, Lanes: 3, Keys: 3}},
	{"lanes and the rest", Config{Slots: 6, Operations: 4, Crashes: 2, Kills: true, Lanes: 2, Deletes: true, Batches: true, Ranges: true, Moves: true, Expiry: true, Checkpoints: true}},
	{"everything", Config{Slots: 5, Operations: 4, Crashes: 2, Kills: true, Deletes: true, Batches: true, Ranges: true, Moves: true, Expiry: true, Checkpoints: true}},
}

// deeper returns the number of additional operations of a history. The histories of the long form
// take minutes, and gigabytes.
func deeper() int { return effort.Pick(-1, -1, 0, 1) }

// TestProtocol examines every history within the bounds.
func TestProtocol(t *testing.T) {
	states := 0
	for _, b := range bounds {
		t.Run(b.name, func(t *testing.T) {
			b.Operations += deeper()
			r := Explore(b.Config)
			states += r.States
			if r.Wrong != "" {
				t.Error(r)
			}
			t.Logf("%d operations, %d crashes: %v", b.Operations, b.Crashes, r)
		})
	}
	t.Logf("%d states", states)
}

// TestRules leaves out one rule at a time. A history must go wrong.
func TestRules(t *testing.T) {
	sync := Config{Slots: 4, Operations: 6, Crashes: 2}
	with := func(set func(*Config)) Config {
		c := sync
		set(&c)
		return c
	}
	cases := map[Rule]Config{
		R1:        with(func(c *Config) { c.Batches, c.AnySlot = true, true }),
		R2:        with(func(c *Config) { c.Relaxed, c.AnySlot, c.Slots = true, true, 5 }),
		R4:        with(func(c *Config) { c.Batches, c.AnySlot = true, true }),
		R5:        with(func(c *Config) { c.Checkpoints = true }),
		R6:        with(func(c *Config) { c.Deletes = true }),
		R6Again:   with(func(c *Config) { c.Deletes = true }),
		R7:        with(func(c *Config) { c.Expiry, c.Checkpoints = true, true }),
		R8:        with(func(c *Config) { c.Deletes, c.Checkpoints, c.AnySlot = true, true, true }),
		R9:        with(func(c *Config) { c.Deletes, c.Checkpoints, c.AnySlot = true, true, true }),
		R12:       with(func(c *Config) { c.Kills = true }),
		I2:        with(func(c *Config) {}),
		I3:        with(func(c *Config) {}),
		I4:        with(func(c *Config) { c.Checkpoints = true }),
		I8:        with(func(c *Config) { c.Moves, c.Checkpoints = true, true }),
		I11:       with(func(c *Config) { c.Relaxed, c.Slots = true, 6 }),
		I12:       with(func(c *Config) { c.Ranges = true }),
		I9:        with(func(c *Config) { c.Lanes, c.Snapshots, c.Slots = 2, true, 4 }),
		L1:        with(func(c *Config) { c.Lanes, c.Operations = 2, 4 }),
		L2:        with(func(c *Config) { c.Lanes, c.Operations, c.AnySlot = 2, 4, true }),
		L3:        with(func(c *Config) { c.Lanes, c.Operations, c.Kills = 2, 4, true }),
		L4:        with(func(c *Config) { c.Lanes, c.Operations = 2, 4 }),
		L5:        with(func(c *Config) { c.Lanes, c.Keys, c.Operations, c.Batches, c.Slots = 1, 3, 3, true, 6 }),
		L6:        with(func(c *Config) { c.Lanes, c.Checkpoints = 2, true }),
		L7:        with(func(c *Config) { c.Lanes, c.Crashes, c.OneLeaf = 2, 0, true }),
		L8:        with(func(c *Config) { c.Lanes, c.Crashes, c.OneLeaf = 2, 0, true }),
		L9:        with(func(c *Config) { c.Lanes = 2 }),
		L10:       with(func(c *Config) { c.Lanes, c.Moves, c.Crashes = 2, true, 0 }),
		L11:       with(func(c *Config) { c.Lanes, c.Operations, c.Kills = 2, 4, true }),
		L12:       with(func(c *Config) { c.Lanes, c.Operations, c.Kills = 2, 4, true }),
		FlipFence: with(func(c *Config) { c.Checkpoints = true }),
		Reuse:     with(func(c *Config) { c.AnySlot = true }),
	}
	for i := range ruleNames {
		rule := Rule(1 << i)
		t.Run(rule.String(), func(t *testing.T) {
			c, ok := cases[rule]
			if !ok {
				t.Fatal("nothing explores this rule")
			}
			c.Broken = rule
			r := Explore(c)
			if r.Wrong == "" {
				t.Errorf("not missed in %d states", r.States)
			}
			t.Log(fmt.Sprint(r))
		})
	}
}
