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

// engine lists the packages above nvmap that a store consists of.
var engine = []string{"alloc", "kv", "kv/internal/btree", "kv/internal/record", "kv/internal/backup", "kv/internal/locks", "kv/internal/hashindex"}

// TestImportsGoDown checks that the packages of the engine import only lower ones, the standard
// library, golang.org/x/sys and small internal packages. So a program that imports nvkv/kv compiles
// no other engine.
func TestImportsGoDown(t *testing.T) {
	allowed := map[string][]string{
		"nvmap": {"nvkv/internal/filegate", "nvkv/internal/racing"},
		"alloc": {"nvkv/nvmap", "nvkv/internal/filegate", "nvkv/internal/racing", "nvkv/internal/debug"},
		"kv": {"nvkv/nvmap", "nvkv/alloc", "nvkv/internal/crc32c", "nvkv/internal/filegate", "nvkv/internal/racing", "nvkv/internal/debug", "nvkv/internal/goroutine", "nvkv/internal/socket",
			"nvkv/kv/internal/locks", "nvkv/kv/internal/btree", "nvkv/kv/internal/record", "nvkv/kv/internal/backup", "nvkv/kv/internal/hashindex"},
		"kv/internal/hashindex": {"nvkv/nvmap", "nvkv/internal/filegate", "nvkv/internal/racing"},
		"kv/internal/btree":     {"nvkv/nvmap", "nvkv/alloc", "nvkv/internal/crc32c", "nvkv/internal/filegate", "nvkv/internal/racing", "nvkv/internal/debug", "nvkv/kv/internal/locks", "nvkv/kv/internal/record"},
		"kv/internal/record":    {"nvkv/nvmap", "nvkv/alloc", "nvkv/internal/crc32c", "nvkv/internal/filegate", "nvkv/internal/racing", "nvkv/internal/debug"},
		"kv/internal/backup":    {"nvkv/nvmap", "nvkv/alloc", "nvkv/internal/crc32c", "nvkv/internal/filegate", "nvkv/internal/racing", "nvkv/internal/debug", "nvkv/kv/internal/record"},
	}
	for pkg, own := range allowed {
		cmd := exec.Command("go", "list", "-deps", "-f", "{{if not .Standard}}{{.ImportPath}}{{end}}", "./"+pkg)
		cmd.Dir = root
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("go list %s: %v", pkg, err)
		}
		for dep := range strings.FieldsSeq(string(out)) {
			ok := dep == "nvkv/"+pkg || strings.HasPrefix(dep, "nvkv/nvmap/internal/") || slices.Contains(own, dep) ||
				dep == "golang.org/x/sys" || strings.HasPrefix(dep, "golang.org/x/sys/")
			if !ok {
				t.Errorf("%s depends on %s", pkg, dep)
			}
		}
	}
}

// unsafeHomes lists the files of the engine that may import unsafe: those that map memory, those
// that read words of it, and the callers of Prefetch.
var unsafeHomes = []string{
	"kv/internal/btree/fetch.go", "kv/internal/btree/lookup.go", "kv/internal/btree/page.go", "kv/internal/btree/sections.go",
	"kv/internal/hashindex/memory.go",
}

// TestUnsafeHomes checks that only the listed files of alloc and kv import unsafe. It leaves out
// nvmap, whose task needs it.
func TestUnsafeHomes(t *testing.T) {
	for _, pkg := range engine {
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
