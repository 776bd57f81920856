// Package callsites finds calls in source code. It serves the mutation tests, which compare the
// calls that exist with those that a suite reached.
package callsites

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"slices"
	"strings"

	"nvkv/nvmap/crashtest"
)

// A Call is a place in the source where a function calls another.
type Call struct {
	Func string // the caller, as the runtime names it, with its package's path
	File string // base name
	Line int
}

func (c Call) String() string { return fmt.Sprintf("%s:%d", c.Func, c.Line) }

// Reached reports whether site is this call: it is in the same function, or in a function literal
// inside it, at the same line.
func (c Call) Reached(site crashtest.Site) bool {
	name, _, _ := strings.Cut(site.Func, ".func")
	return name == c.Func && site.Line == c.Line
}

// In returns the calls in the source of a package whose callee is wanted. dir is the package's
// directory, which lies at the root of the module. In skips test files and the files named in skip.
func In(dir string, skip []string, wanted func(callee ast.Expr) bool) ([]Call, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		return nil, err
	}
	var calls []Call
	for _, file := range files {
		base := filepath.Base(file)
		if strings.HasSuffix(base, "_test.go") || slices.Contains(skip, base) {
			continue
		}
		fset := token.NewFileSet()
		f, err := parser.ParseFile(fset, file, nil, 0)
		if err != nil {
			return nil, err
		}
		for _, d := range f.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && fn.Body != nil {
				calls = append(calls, within(fset, f.Name.Name, fn, wanted)...)
			}
		}
	}
	if len(calls) == 0 {
		return nil, fmt.Errorf("callsites: no call is wanted in %d files of %s", len(files), dir)
	}
	return calls, nil
}

func within(fset *token.FileSet, pkg string, fn *ast.FuncDecl, wanted func(ast.Expr) bool) (calls []Call) {
	ast.Inspect(fn.Body, func(n ast.Node) bool {
		if call, ok := n.(*ast.CallExpr); ok && wanted(call.Fun) {
			at := fset.Position(call.Pos())
			calls = append(calls, Call{"nvkv/" + pkg + "." + nameOf(fn), filepath.Base(at.Filename), at.Line})
		}
		return true
	})
	return calls
}

// IsNamed reports whether an expression is an identifier with the given name or ends in a field of
// that name: m, x.m, x.y.m.
func IsNamed(x ast.Expr, name string) bool {
	switch x := x.(type) {
	case *ast.Ident:
		return x.Name == name
	case *ast.SelectorExpr:
		return x.Sel.Name == name
	}
	return false
}

// nameOf returns the name that the runtime gives a function within its package.
func nameOf(fn *ast.FuncDecl) string {
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
