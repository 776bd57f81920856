package lint

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"nvkv/internal/effort"
)

// TestRenameModule renames the module in a copy of the tree and builds it: the engine, and
// the imports of every nested module. The full form vets every module with its tests. No import of
// the old path may be left.
func TestRenameModule(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: the module was not renamed")
	}
	old := strings.TrimSpace(mustRun(t, root, "scripts/rename-module", "--show"))
	dir := copyTree(t)
	const path = "example.com/a/store"
	mustRun(t, dir, "scripts/rename-module", path)
	if got := strings.TrimSpace(mustRun(t, dir, "scripts/rename-module", "--show")); got != path {
		t.Fatalf("the module is called %s", got)
	}
	if left := oldImports(t, dir, old); len(left) > 0 {
		t.Errorf("imports of %s are left:\n%s", old, strings.Join(left, "\n"))
	}
	mustRun(t, dir, "go", "build", "./kv")
	mustRun(t, dir, "go", "test", "./internal/callsites")
	if effort.Now() >= effort.Full {
		mustRun(t, dir, "go", "vet", "./...")
	}
	modules := strings.Fields(mustRun(t, root, "git", "ls-files", "*/go.mod", ":!**/testdata/**"))
	if len(modules) < 5 {
		t.Fatalf("only %d nested modules", len(modules))
	}
	for _, mod := range modules {
		nested := filepath.Join(dir, filepath.Dir(mod))
		mustRun(t, nested, "go", "list", "-deps", "./...")
		if effort.Now() >= effort.Full {
			mustRun(t, nested, "go", "vet", "./...")
		}
	}
}

// copyTree copies the tracked files of the working tree to a directory, and returns it.
func copyTree(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for name := range strings.SplitSeq(mustRun(t, root, "git", "ls-files", "-z"), "\x00") {
		from := filepath.Join(root, name)
		info, err := os.Stat(from)
		if name == "" || err != nil {
			continue // a file that the working tree has removed
		}
		to := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(to, readAll(t, from), info.Mode().Perm()); err != nil {
			t.Fatal(err)
		}
	}
	mustRun(t, dir, "git", "init", "-q", ".")
	mustRun(t, dir, "git", "add", ".")
	return dir
}

// oldImports returns the lines of Go files below dir that import a package of the old path.
func oldImports(t *testing.T, dir, old string) (left []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || filepath.Ext(path) != ".go" {
			return err
		}
		for line := range strings.Lines(string(readAll(t, path))) {
			if strings.Contains(line, `"`+old+`/`) {
				left = append(left, path+": "+strings.TrimSpace(line))
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return left
}

// mustRun runs a program in dir and returns what it wrote.
func mustRun(t *testing.T, dir, name string, args ...string) string {
	t.Helper()
	if strings.HasPrefix(name, "scripts/") {
		name = "./" + name
	}
	cmd := exec.Command(name, args...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s, in %s: %v\n%s", name, strings.Join(args, " "), dir, err, out)
	}
	return string(out)
}
