package kv

import (
	"bytes"
	"context"
	"fmt"
	"go/ast"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"

	"nvkv/alloc"
	"nvkv/internal/callsites"
	"nvkv/internal/effort"
	"nvkv/nvmap"
	"nvkv/nvmap/crashtest"
)

// The mutation tests disable each place in packages alloc and kv that writes or fences, one at a
// time, and demand that the crash tests object. They find the places by running the tests.

// mutationSuite makes a suite of scenarios.
func mutationSuite(scenarios []func(*crashtest.Sites) error) func(*crashtest.Sites) error {
	return func(sites *crashtest.Sites) error {
		for _, f := range scenarios {
			if err := f(sites); err != nil {
				return err
			}
		}
		return nil
	}
}

// mutationScenarios are the scenarios that must object: creation, the traces, and the random suite
// in its forms, each small. The quickest to object come first.
func mutationScenarios() (out []func(*crashtest.Sites) error) {
	random := func(c *crasher, change func(*crasher)) {
		seed := *c
		out = append(out, func(sites *crashtest.Sites) error {
			c := seed
			c.rng = rand.New(rand.NewPCG(c.seed, 2))
			c.sites = sites
			c.ops, c.images, c.opt.listLevels = []int{50, 5, 3}, []int{3, 2, 1}, int(seed.seed%2)
			change(&c)
			return runCrashes(&c)
		})
	}
	random(newCrasher(1), func(c *crasher) { c.images, c.ops, c.between, c.chain = []int{12}, []int{0}, 1, -1 })
	random(newCrasher(2), func(c *crasher) {})
	out = append(out, formatCrashing, restoreCrashing, func(sites *crashtest.Sites) error { return growOverRemains(sites, 0) })
	for _, tr := range traces {
		out = append(out, func(sites *crashtest.Sites) error {
			_, err := tellOn(0, sites, 24, tr)
			return err
		})
	}
	random(relaxedCrasher(3), func(c *crasher) {})
	for i := range uint64(2) {
		random(newCrasher(20+i), func(c *crasher) {
			c.opt.early, c.late, c.opt.privateFrom, c.ops[0] = true, i == 0, 4, 30
		})
	}
	out = append(out, recoverEarly, evacuateCrashing)
	random(relaxedCrasher(5), func(c *crasher) { c.quiet = true })
	for seed := range uint64(4) {
		random(newCrasher(10+seed), func(c *crasher) { c.quiet = seed%2 == 1 })
	}
	return out
}

// formatCrashing crashes a region directly after its creation. A store would not show the effect,
// because its first opening writes again.
func formatCrashing(sites *crashtest.Sites) error {
	dev := nvmap.NewSim(nvmap.NewMem(crashMediumBytes))
	defer dev.Close()
	m, err := nvmap.NewMap(sites.Device(dev), nil)
	if err != nil {
		return err
	}
	defer m.Close()
	if err := alloc.Format(m, alloc.Options{}); err != nil {
		return err
	}
	for im := range dev.Images(1, 20) {
		again, err := nvmap.NewMap(crashDevice{im.Device()}, nil)
		if err != nil {
			return err
		}
		_, err = alloc.Open(again)
		if err = firstErr(err, again.Close()); err != nil {
			return fmt.Errorf("%v: %w", im, err)
		}
	}
	return nil
}

// restoreCrashing crashes a restore.
func restoreCrashing(sites *crashtest.Sites) error {
	db, err := OpenDevice(nvmap.NewMem(8<<20), nil)
	if err != nil {
		return err
	}
	defer db.Close()
	var stream bytes.Buffer
	want := model{"a": "1", "b": strings.Repeat("2", 20_000)}
	for k, v := range want {
		if err := db.Put([]byte(k), []byte(v)); err != nil {
			return err
		}
	}
	if _, err := db.Backup(context.Background(), &stream); err != nil {
		return err
	}
	_, err = crashRestore(sites, stream.Bytes(), want, 0)
	return err
}

// evacuateCrashing crashes a store that moves its records and is cut.
func evacuateCrashing(sites *crashtest.Sites) error {
	for _, together := range []bool{false, true} {
		c := newCrasher(30)
		c.images, c.sites = []int{3, 1}, sites
		c.opt.tidySlack, c.opt.moveTogether = 1, together
		s, err := c.start()
		if err == nil {
			_, err = s.evacuating(1)
		}
		if err = firstErr(err, s.end()); err != nil {
			return err
		}
	}
	return nil
}

// recoverEarly crashes checkpoints, and all recoveries from that, of a store whose recoveries write
// pages early, to places that are free in the checkpoint that they found.
func recoverEarly(sites *crashtest.Sites) error {
	c := newCrasher(40)
	c.images, c.chain, c.between, c.sites = []int{5, 4}, 1, 6, sites
	c.ops = []int{0, 1}
	c.opt.early = true
	s, err := c.start()
	for range 3 {
		if err == nil {
			err = s.checkpointCrashing()
		}
	}
	return firstErr(err, s.end())
}

// checkpointCrashing writes, and crashes a checkpoint with a writer between its freeze and its
// flip.
func (s *session) checkpointCrashing() error {
	for range 3 {
		if err := s.write(s.c.changes(2), false); err != nil {
			return err
		}
	}
	s.m.Watch(true)
	s.meanwhile(func() error { return s.write(s.c.changes(3), false) })
	err := guarded(s.checkpoint)
	s.m.Hook(nil)
	s.m.Watch(false)
	return firstErr(s.failure(), err)
}

// growOverRemains grows a store over bytes of an earlier owner of the device, and crashes that.
func growOverRemains(sites *crashtest.Sites, off rules) error {
	c := newCrasher(3)
	c.sites, c.used, c.images = sites, true, []int{20}
	c.opt.broken = off
	s, err := c.start()
	if err == nil {
		fences := 0
		s.atFences(func() {
			if fences++; fences <= 5 { // growth comes before the record, for the index first
				s.crash(20)
			}
		})
		err = firstErr(s.do(put("a", strings.Repeat("v", 1<<20))), s.failure())
		s.m.Hook(nil)
	}
	if err == nil {
		s.crash(2)
		err = s.failure()
	}
	return firstErr(err, s.end())
}

// TestGrowOverRemains: bytes in the place to which a store grows have no effect.
func TestGrowOverRemains(t *testing.T) {
	skipInRace(t)
	t.Parallel()
	withAndWithout(t, ruleA5, func(off rules) error { return growOverRemains(nil, off) })
}

// mutateEnv limits TestMutation to places whose names contain its value, for example "grow" or
// "kv.".
const mutateEnv = "NVKV_MUTATE"

// plainMutants are the functions whose writes and fences the plain form disables. The first two
// scenarios object to each of them.
var plainMutants = []string{"nvkv/kv.(*DB).endCommit", "nvkv/kv.(*DB).storeOne", "nvkv/alloc.(*Region).WriteSuper"}

// TestMutation disables a sample of the places, in the long form all of them. The plain form
// disables plainMutants.
func TestMutation(t *testing.T) {
	skipInRace(t)
	if testing.Short() {
		t.Skip("the suite once for each of many places")
	}
	const all = 0
	o := crashtest.MutateOptions{Sample: effort.Pick(all, all, 6, all), Seed: 1, Helpers: mutationHelpers}
	scenarios := mutationScenarios()
	plain := effort.Now() < effort.Full && os.Getenv(mutateEnv) == ""
	if plain {
		scenarios = scenarios[:2]
		o.Match = func(s crashtest.Site) bool { return slices.Contains(plainMutants, s.Func) }
	}
	if only := os.Getenv(mutateEnv); only != "" {
		o.Sample, o.Match = all, func(s crashtest.Site) bool { return strings.Contains(s.String(), only) }
	}
	o.Each = func(x crashtest.Mutant) {
		if x.Err == nil {
			t.Errorf("unnoticed: %v (%d calls, %v)", x.Site, x.Calls, x.Took)
		} else {
			t.Logf("%v (%d calls, %v): %.160v", x.Site, x.Calls, x.Took, strings.ReplaceAll(x.Err.Error(), "\n", " "))
		}
	}
	m, err := crashtest.Mutate(o, mutationSuite(scenarios))
	if err != nil {
		t.Fatal(err)
	}
	t.Log(m)
	if plain {
		if len(m.Tried) < len(plainMutants) {
			t.Errorf("only %d places disabled for %v", len(m.Tried), plainMutants)
		}
		return
	}
	skip := []string{
		"buddy.go", "slabs.go", // the two allocators have a mutation test of their own
		"rules.go", // the store without one of its rules
	}
	for _, dir := range []string{"../alloc", "."} {
		calls, err := callsites.In(dir, skip, writesOrFences)
		if err != nil {
			t.Fatal(err)
		}
		for _, call := range calls {
			if !slices.Contains(mutationHelpers, call.Func) && !slices.ContainsFunc(m.Sites, call.Reached) {
				t.Errorf("the suite does not reach %v", call)
			}
		}
	}
}

// mutationHelpers write or fence for several callers; the calls of them are the places.
var mutationHelpers = []string{"nvkv/alloc.writeWord", "nvkv/alloc.writeSuper", "nvkv/alloc.(*Region).writeDesc", "nvkv/kv.(*runWriter).pour"}

// writesOrFences says whether a call is of a writing method of a map, or of a helper.
func writesOrFences(called ast.Expr) bool {
	switch f := called.(type) {
	case *ast.Ident:
		return isHelper(f.Name)
	case *ast.SelectorExpr:
		return isHelper(f.Sel.Name) ||
			callsites.IsNamed(f.X, "m") && slices.Contains([]string{"Write", "WriteBeside", "WriteBack", "Fence"}, f.Sel.Name)
	}
	return false
}

// isHelper compares the name only: each is unique.
func isHelper(name string) bool {
	return slices.ContainsFunc(mutationHelpers, func(h string) bool { return h[strings.LastIndex(h, ".")+1:] == name })
}
