package lint

import (
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const repository = "../.."

var (
	invariantRow  = regexp.MustCompile(`(?m)^\| \*\*([ARI]\d+)\*\* \|(.*)\|(.*)\|(.*)\|$`)
	invariantName = regexp.MustCompile(`\b[ARI]\d{1,2}\b`)
	testName      = regexp.MustCompile("`(Test\\w+|Fuzz\\w+)`")
)

// TestInvariantsAreListed checks that docs/design.md lists once every invariant that comments of
// alloc and kv cite, with tests that exist, and that the numbers of R and I have no gaps.
func TestInvariantsAreListed(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(repository, "docs", "design.md"))
	if err != nil {
		t.Fatal(err)
	}
	tests := map[string]bool{}
	cited := map[string]string{}
	for _, pkg := range engine {
		readPackage(t, pkg, tests, cited)
	}
	listed := map[string]bool{}
	for _, row := range invariantRow.FindAllStringSubmatch(string(text), -1) {
		id := row[1]
		if listed[id] {
			t.Errorf("design.md lists %s twice", id)
		}
		listed[id] = true
		for _, m := range testName.FindAllStringSubmatch(row[4], -1) {
			if !tests[m[1]] {
				t.Errorf("design.md: %s is held by %s, which does not exist", id, m[1])
			}
		}
	}
	if len(listed) < 20 {
		t.Fatalf("design.md lists %d invariants: the table is not read", len(listed))
	}
	for _, letter := range []string{"R", "I"} {
		n := 0
		for id := range listed {
			if strings.HasPrefix(id, letter) {
				n++
			}
		}
		for i := range n {
			if id := letter + strconv.Itoa(i+1); !listed[id] {
				t.Errorf("design.md lists %d invariants %s, but not %s: the numbers have no gaps",
					n, letter, id)
			}
		}
	}
	for _, id := range slices.Sorted(maps.Keys(cited)) {
		if !listed[id] {
			t.Errorf("%s cites %s, which design.md does not list", cited[id], id)
		}
	}
}

// readPackage collects the tests of a package, and the invariants that the
// comments of its other files cite.
func readPackage(t *testing.T, pkg string, tests map[string]bool, cited map[string]string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(repository, pkg, "*.go"))
	if err != nil || len(files) == 0 {
		t.Fatalf("%s: %d files, %v", pkg, len(files), err)
	}
	for _, file := range files {
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(file, "_test.go") {
			for _, d := range f.Decls {
				if fn, ok := d.(*ast.FuncDecl); ok {
					tests[fn.Name.Name] = true
				}
			}
			continue
		}
		for _, c := range f.Comments {
			for _, id := range invariantName.FindAllString(c.Text(), -1) {
				cited[id] = filepath.Base(file)
			}
		}
	}
}
