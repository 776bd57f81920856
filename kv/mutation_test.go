package kv

import (
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"nvkv/nvmap/crashtest"
)

// The mutation tests disable each place in packages alloc and kv that writes or
// fences, one at a time, and demand that the crash tests object. The places are
// found by running them.

// mutationSuite is what must object: creation, the traces, and the random suite
// in its forms, each small, with the quickest to object in front.
func mutationSuite(sites *crashtest.Sites) error {
	for _, f := range mutationScenarios() {
		if err := f(sites); err != nil {
			return err
		}
	}
	return nil
}

func mutationScenarios() (out []func(*crashtest.Sites) error) {
	random := func(seed uint64, change func(*crasher)) {
		out = append(out, func(sites *crashtest.Sites) error {
			c := newCrasher(seed)
			c.sites = sites
			c.ops[0], c.images = 50, []int{3, 2, 1}
			change(c)
			return runCrashes(c)
		})
	}
	random(1, func(c *crasher) { c.images, c.ops, c.between, c.chain = []int{12}, []int{0}, 1, -1 })
	random(2, func(c *crasher) {})
	out = append(out, growOverRemains)
	for _, tr := range traces {
		out = append(out, func(sites *crashtest.Sites) error {
			_, err := tellOn(0, sites, 24, tr)
			return err
		})
	}
	for seed := range uint64(4) {
		random(10+seed, func(c *crasher) { c.quiet = seed%2 == 1 })
	}
	return out
}

// growOverRemains grows a store into what another user left on the device, and
// crashes that.
func growOverRemains(sites *crashtest.Sites) error {
	c := newCrasher(3)
	c.sites, c.used, c.images = sites, true, []int{20}
	s, err := c.start()
	if err == nil {
		fences := 0
		s.atFences(func() {
			if fences++; fences <= 3 { // growth comes before the record
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

// TestGrowOverRemains: what lies where a store grows to does not show.
func TestGrowOverRemains(t *testing.T) {
	skipInRace(t)
	if err := growOverRemains(nil); err != nil {
		t.Error(err)
	}
}

// TestMutation is the check in short: a sample of the places, drawn anew with
// each seed. NVKV_CRASH=long takes all of them.
func TestMutation(t *testing.T) {
	skipInRace(t)
	o := crashtest.MutateOptions{Sample: 6, Seed: 1}
	switch {
	case os.Getenv("NVKV_CRASH") == "long":
		o.Sample = 0
	case testing.Short():
		t.Skip("the suite once for each of many places")
	}
	o.Each = func(x crashtest.Mutant) {
		if x.Err == nil {
			t.Errorf("unnoticed: %v (%d calls, %v)", x.Site, x.Calls, x.Took)
		} else {
			t.Logf("%v (%d calls, %v): %.160v", x.Site, x.Calls, x.Took, strings.ReplaceAll(x.Err.Error(), "\n", " "))
		}
	}
	m, err := crashtest.Mutate(o, mutationSuite)
	if err != nil {
		t.Fatal(err)
	}
	t.Log(m)
	reached := map[string]bool{}
	for _, s := range m.Sites {
		reached[fmt.Sprintf("%s:%d", s.Func[strings.LastIndex(s.Func, "/")+1:], s.Line)] = true
	}
	for _, call := range writingCalls(t, "../alloc", ".") {
		if !reached[call] {
			t.Logf("not tried, as the suite does not reach it: %s", call)
		}
	}
}

// writingCalls returns where the code of packages writes to a map or fences it,
// as "pkg.function:line".
func writingCalls(t *testing.T, dirs ...string) (calls []string) {
	t.Helper()
	for _, dir := range dirs {
		files, err := filepath.Glob(filepath.Join(dir, "*.go"))
		if err != nil || len(files) == 0 {
			t.Fatal(errors.Join(err, fmt.Errorf("no files in %s", dir)))
		}
		for _, file := range files {
			switch base := filepath.Base(file); {
			case strings.HasSuffix(base, "_test.go"), base == "buddy.go", base == "slabs.go":
				continue // the two allocators have a mutation test of their own
			}
			fset := token.NewFileSet()
			f, err := parser.ParseFile(fset, file, nil, 0)
			if err != nil {
				t.Fatal(err)
			}
			for _, d := range f.Decls {
				if fn, ok := d.(*ast.FuncDecl); ok && fn.Body != nil {
					calls = append(calls, callsIn(fset, f.Name.Name, fn)...)
				}
			}
		}
	}
	return calls
}

func callsIn(fset *token.FileSet, pkg string, fn *ast.FuncDecl) (calls []string) {
	ast.Inspect(fn.Body, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok {
			return true
		}
		sel, ok := call.Fun.(*ast.SelectorExpr)
		if !ok || !slices.Contains([]string{"Write", "WriteBeside", "WriteBack", "Fence"}, sel.Sel.Name) || !isMap(sel.X) {
			return true
		}
		calls = append(calls, fmt.Sprintf("%s.%s:%d", pkg, funcName(fn), fset.Position(call.Pos()).Line))
		return true
	})
	return calls
}

// isMap says whether an expression is named as maps are: m, or anything's m.
func isMap(x ast.Expr) bool {
	switch x := x.(type) {
	case *ast.Ident:
		return x.Name == "m"
	case *ast.SelectorExpr:
		return x.Sel.Name == "m"
	}
	return false
}

// funcName is how the runtime names a function within its package.
func funcName(fn *ast.FuncDecl) string {
	if fn.Recv == nil {
		return fn.Name.Name
	}
	switch r := fn.Recv.List[0].Type.(type) {
	case *ast.StarExpr:
		return fmt.Sprintf("(*%v).%s", r.X, fn.Name.Name)
	default:
		return fmt.Sprintf("%v.%s", r, fn.Name.Name)
	}
}
