// Package lint holds the house rules that a machine can check.
package lint

import (
	"go/parser"
	"go/token"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const root = "../.."

// TestImportsGoDown: cmd, bench and compat may import kv, kv alloc, alloc
// nvmap, and the three below import nothing else but the standard library,
// golang.org/x/sys and three small packages of ours: whoever imports nvkv/kv compiles no rival.
func TestImportsGoDown(t *testing.T) {
	allowed := map[string][]string{
		"nvmap": {"nvkv/internal/filegate"},
		"alloc": {"nvkv/nvmap", "nvkv/internal/filegate"},
		"kv":    {"nvkv/nvmap", "nvkv/alloc", "nvkv/internal/crc32c", "nvkv/internal/filegate", "nvkv/internal/goroutine"},
	}
	for pkg, own := range allowed {
		cmd := exec.Command("go", "list", "-deps", "-f", "{{if not .Standard}}{{.ImportPath}}{{end}}", "./"+pkg)
		cmd.Dir = root
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("go list %s: %v", pkg, err)
		}
		for dep := range strings.FieldsSeq(string(out)) {
			ok := dep == "nvkv/"+pkg || slices.Contains(own, dep) ||
				dep == "golang.org/x/sys" || strings.HasPrefix(dep, "golang.org/x/sys/")
			if !ok {
				t.Errorf("%s depends on %s", pkg, dep)
			}
		}
	}
}

// unsafeHomes are the files of the engine that may import unsafe: those that
// map memory, those that read words of it, and the two callers of Prefetch.
var unsafeHomes = []string{
	"kv/lookup.go", "kv/medium.go", "kv/page.go", "kv/sections.go",
}

// TestUnsafeHomes: in alloc and kv, unsafe stays where it is; nvmap, whose
// business it is, keeps it out of its tests' reach by its own rules.
func TestUnsafeHomes(t *testing.T) {
	for _, pkg := range []string{"alloc", "kv"} {
		files, err := filepath.Glob(filepath.Join(root, pkg, "*.go"))
		if err != nil || len(files) == 0 {
			t.Fatalf("%s: %d files, %v", pkg, len(files), err)
		}
		for _, file := range files {
			if strings.HasSuffix(file, "_test.go") {
				continue
			}
			f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
			if err != nil {
				t.Fatal(err)
			}
			name, _ := filepath.Rel(root, file)
			for _, spec := range f.Imports {
				if spec.Path.Value == `"unsafe"` && !slices.Contains(unsafeHomes, filepath.ToSlash(name)) {
					t.Errorf("%s imports unsafe", name)
				}
			}
		}
	}
}
