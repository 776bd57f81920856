package lint

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

var (
	promiseRow  = regexp.MustCompile(`(?m)^\| (\d+) \|(.*)\|(.*)\|(.*)\|$`)
	shownBy     = regexp.MustCompile("`((?:Test|Fuzz|Benchmark)\\w+)`")
	promises    = 30
	promiseFile = filepath.Join(repository, "docs", "promises.md")
)

// TestPromisesAreShown checks that docs/promises.md has every promise once, and that each names
// tests or benchmarks that exist.
func TestPromisesAreShown(t *testing.T) {
	text, err := os.ReadFile(promiseFile)
	if err != nil {
		t.Fatal(err)
	}
	tests := allTests(t)
	seen := map[int]bool{}
	for _, row := range promiseRow.FindAllStringSubmatch(string(text), -1) {
		n, _ := strconv.Atoi(row[1])
		if seen[n] {
			t.Errorf("promise %d stands there twice", n)
		}
		seen[n] = true
		names := shownBy.FindAllStringSubmatch(row[3], -1)
		if len(names) == 0 {
			t.Errorf("promise %d names no test", n)
		}
		for _, m := range names {
			if !tests[m[1]] {
				t.Errorf("promise %d is shown by %s, which does not exist", n, m[1])
			}
		}
		if kept := strings.TrimSpace(row[4]); !strings.HasPrefix(kept, "yes") && !strings.HasPrefix(kept, "in part") && !strings.HasPrefix(kept, "no") {
			t.Errorf("promise %d does not say whether it is kept: %q", n, kept)
		}
	}
	for n := 1; n <= promises; n++ {
		if !seen[n] {
			t.Errorf("promise %d is not there", n)
		}
	}
}

// allTests returns the names of the repository's tests and benchmarks.
func allTests(t *testing.T) map[string]bool {
	t.Helper()
	tests := map[string]bool{}
	err := filepath.WalkDir(repository, func(path string, d os.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		for _, decl := range f.Decls {
			if fn, ok := decl.(*ast.FuncDecl); ok {
				tests[fn.Name.Name] = true
			}
		}
		return nil
	})
	if err != nil || len(tests) < 100 {
		t.Fatalf("%d tests found, %v", len(tests), err)
	}
	return tests
}
